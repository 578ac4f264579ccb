from pathlib import Path

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_that_is_to_be_noticed_can_be_put_in(mutant: Mutant):
    # Otherwise `make mutants` would only find out hours later that the code has moved on.
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert Path(ROOT / mutant.tests.partition("::")[0]).exists()
