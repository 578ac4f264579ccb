from benchmarks import machine


def test_a_package_that_is_not_there_is_left_out(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("numpy", "no-such-package"))
    told = machine.machine()
    assert list(told) == ["processor", "cores", "memory", "system", "Python", "numpy"]
