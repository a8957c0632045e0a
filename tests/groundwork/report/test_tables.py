"""What tables of all reports have in common."""

from groundwork.report import tables


def test_one_value_has_no_deviation():
    assert tables.plus_minus([0.5]) == "0.500"
    assert tables.plus_minus([0.5, 0.7], 2) == "0.60±0.14"
    assert tables.averages(1) == "value of one replicate"
    assert tables.averages(3) == "mean ± sample standard deviation over 3 replicates"
