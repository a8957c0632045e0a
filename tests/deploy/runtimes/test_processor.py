import platform

import pytest

from deploy.runtimes import processor


@pytest.mark.parametrize(
    ("machine", "flags", "wanted"),
    [
        ("x86_64", "avx2 avx512f", True),
        ("AMD64", "avx512f avx512_vnni", False),
        ("x86_64", "avx_vnni", False),
        ("x86_64", None, True),
        ("aarch64", None, False),
    ],
)
def test_bytes_saturate_on_x86_without_vnni(tmp_path, monkeypatch, machine, flags, wanted):
    asked = tmp_path / "cpuinfo"
    if flags is not None:
        asked.write_text(f"flags\t: {flags}\n")
    monkeypatch.setattr(processor, "_CPUINFO", asked)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert processor.saturates() == wanted
