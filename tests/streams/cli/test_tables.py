import pytest

from streams.cli.tables import print_table


def test_a_small_number_is_not_rounded_to_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"setting": "scorer.min_learning_rate", "value": 1.25e-4}, {"setting": "x", "value": 604800.0}])
    assert capsys.readouterr().out.splitlines() == [
        "setting                   value",
        "scorer.min_learning_rate  0.000125",
        "x                         604800",
    ]
