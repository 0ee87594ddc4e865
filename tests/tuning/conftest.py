"""What the tests of this room share."""

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small are faster on one thread, and bits are compared, which several may add up in another order."""
    torch = pytest.importorskip("torch", reason="PyTorch is missing: pip install 'narrows[tuning]'")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
