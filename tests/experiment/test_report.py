"""What tables of all reports have in common."""

from experiment import report


def test_one_value_has_no_deviation():
    assert report.plus_minus([0.5]) == "0.500"
    assert report.plus_minus([0.5, 0.7], 2) == "0.60±0.14"
    assert report.averages(1) == "value of one replicate"
    assert report.averages(3) == "mean ± sample standard deviation over 3 replicates"
