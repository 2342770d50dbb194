"""The errors of this project: one small family.

Each is also the builtin error that callers would expect. A message names what was found, where, what was expected and
what to do.
"""


class MarketDataError(Exception):
    """Anything this project raises on purpose."""


class InstrumentError(MarketDataError, ValueError):
    """A text is not an instrument id."""


class DatasetError(MarketDataError, ValueError):
    """A dataset, timeframe or column that does not exist was asked for."""


class LayoutError(MarketDataError, ValueError):
    """A layout template is malformed, or a path does not belong to the layout."""


class WindowError(MarketDataError, ValueError):
    """A start or an end of a window of time cannot be understood."""


class QueryError(MarketDataError, ValueError):
    """A query in SQL cannot be understood or run, or would do more than read the lake."""


class SettingError(MarketDataError, ValueError):
    """A setting from the environment or `.env` is wrong."""


class SourceError(MarketDataError):
    """The source's input for one instrument's day (or for a whole day) cannot be used."""


class NoData(SourceError, LookupError):
    """The source has nothing at all for what was asked."""


class NotGiven(NoData):
    """The source has nothing of a kind that it need not have: what the lake has of it stays."""


class MissingInput(NoData):
    """The lake has nothing that a dataset's day could be made from; what should be there has its own error."""


class LakeError(MarketDataError):
    """An object of the lake is not what it should be."""


class ObjectNotFound(LakeError, FileNotFoundError):
    """No object lies under the key."""


class ObjectChanged(LakeError):
    """An object is no longer the one that was read: somebody else has published a newer one."""
