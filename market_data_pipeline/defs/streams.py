"""The value of every asset: a stream of rows that the IO manager writes, and what became of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date

from market_data_pipeline.lake.differences import Difference
from market_data_pipeline.lake.writer import WriteReport
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import DayRows


@dataclass
class RowStream:
    """Rows for some days of a dataset; may be gone through again.

    Attributes:
        selection: the instruments that were asked for.
        rows: starts the stream.
        notes: facts of each day for its metadata, which are complete once the stream has been read.
        report: what the IO manager did with the rows, once it has.
        differences: what it then found to differ between the layouts.
    """

    selection: Selection
    rows: Callable[[], Iterator[DayRows]]
    notes: Callable[[date], dict[str, object]] = lambda _: {}
    report: WriteReport | None = field(default=None, init=False)
    differences: tuple[Difference, ...] = field(default=(), init=False)

    def __iter__(self) -> Iterator[DayRows]:
        return self.rows()
