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


def test_the_machine_has_the_memory_that_its_kernel_says():
    with open("/proc/meminfo", encoding="ascii") as lines:
        total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    assert memory.of_machine() == pytest.approx(1024 * total, rel=0.01)
