"""Each row of the matrix in the middle of two tasks: they never know, the archive has all, viewers see or count all.

The rows of a class share a worker.
"""

from __future__ import annotations

import pytest

from tests.faults import matrix
from tests.faults.course import survive
from tests.faults.matrix import Fault
from tests.faults.site import Site


def rows(faults: list[Fault]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", faults, ids=lambda fault: fault.name)


class TestGone:
    """Redis is gone, or back without what it held."""

    @rows(matrix.GONE)
    def test_fault(self, site: Site, fault: Fault) -> None:
        survive(site, fault)


class TestRefuses:
    """Redis answers, but takes nothing."""

    @rows(matrix.REFUSES)
    def test_fault(self, site: Site, fault: Fault) -> None:
        survive(site, fault)


class TestClosed:
    """Redis lets nobody in."""

    @rows(matrix.CLOSED)
    def test_fault(self, site: Site, fault: Fault) -> None:
        survive(site, fault)


class TestNetwork:
    """The network is broken."""

    @rows(matrix.NETWORK)
    def test_fault(self, site: Site, fault: Fault) -> None:
        survive(site, fault)


class TestOurs:
    """The shipper or the catalog has trouble of its own."""

    @rows(matrix.OURS)
    def test_fault(self, site: Site, fault: Fault) -> None:
        survive(site, fault)
