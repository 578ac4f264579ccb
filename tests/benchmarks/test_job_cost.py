from benchmarks.job_cost import GATE, table


def run(seconds, gate=0.0):
    return {"seconds a step": seconds, GATE[0]: gate, GATE[1]: gate}


def test_ratios_are_of_the_runs_of_one_round():
    found = {"job": [run(2.2, 5.0), run(4.0, 7.0), run(3.0, 6.0)], "bare TRL": [run(2.0), run(4.0), run(2.5)]}
    lines = table(found, "dpo", 8, 1).splitlines()
    assert lines[0].startswith("dpo, 3 rounds of 8 steps, 1 thread(s); ")
    assert "| seconds a step | 3.00 | 2.50 | 1.100 | 1.000 | 1.200 |" in lines
    assert "| gate, s | 6.00 | - | | | |" in lines
