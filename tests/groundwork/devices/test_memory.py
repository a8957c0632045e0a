import pytest

from groundwork.devices import memory
from groundwork.errors import UserError


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20, "1.0 MiB"),
        (5 * 2**39, "2.5 TiB"),
        (1023 * 2**60, "1023.0 EiB"),
        (2**70, "2**70 bytes"),
        (10**1000, "2**3321 bytes"),
    ],
)
def test_bytes_are_shown_with_a_unit(count, text):
    assert memory.shown(count) == text


def test_only_what_is_more_than_all_memory_is_refused():
    memory.check("data.pad=8", memory.of_machine())
    memory.check("data.pad=8", 1000, 1000)
    with pytest.raises(UserError, match=r"data\.pad=8 needs 1\.0 KiB .* this machine has 1\.0 KiB"):
        memory.check("data.pad=8", 1025, 1024)


def test_the_machine_has_the_memory_that_its_kernel_says(monkeypatch):
    with open("/proc/meminfo", encoding="ascii") as lines:
        total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    monkeypatch.setattr(memory, "_limits", lambda *_: iter([]))
    assert memory.of_machine() == pytest.approx(1024 * total, rel=0.01)


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        ("0::/job/step\n", {"job/step/memory.max": "max", "job/memory.max": "3000"}, [3000]),
        ("0::/\n", {"memory.max": "2000\n"}, [2000]),  # a container's own tree
        (
            "4:memory:/docker/a:b\n3:cpu:/x\n0::/\n",
            {"memory/memory.limit_in_bytes": "1000", "cpu/x/memory.max": "1", "x": "2"},
            [1000],
        ),
        ("0::/job\n", {}, []),
    ],
)
def test_a_container_or_a_job_may_have_less_than_its_machine(tmp_path, groups, files, limits):
    for name, said in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(said)
    (tmp_path / "groups").write_text(groups)
    assert list(memory._limits(tmp_path / "groups", tmp_path / "tree")) == limits
    assert list(memory._limits(tmp_path / "none", tmp_path / "tree")) == []


def test_what_a_container_has_counts(monkeypatch):
    monkeypatch.setattr(memory, "_limits", lambda *_: iter([2**62, 4096]))
    assert memory.of_machine() == 4096
