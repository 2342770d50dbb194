"""How much CPU and memory the assets of a run get on Kubernetes, where each has a pod of its own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from market_data_pipeline.model.datasets import DATASETS, Dataset, Kind
from market_data_pipeline.model.errors import SettingError

_SIZE = re.compile(r"([1-9][0-9]{0,3}m?|0\.[0-9]{1,3}|[1-9][0-9]?\.[0-9]{1,3}):([1-9][0-9]{0,5}[MG]i)")


@dataclass(frozen=True)
class PodSize:
    """What a pod asks for, in Kubernetes' own words.

    Attributes:
        cpu: cores, such as `2`, `0.5` or `500m`.
        memory: such as `512Mi` or `4Gi`; also the most that it may take.
    """

    cpu: str
    memory: str


@dataclass(frozen=True)
class StepPods:
    """The sizes of the pods of assets; without any, all assets of a run are made in the process of the run.

    Attributes:
        others: of assets that are not named; None where nothing is said.
        named: by a dataset's name, or by a kind's, such as `ticks`.
    """

    others: PodSize | None = None
    named: Mapping[str, PodSize] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """True where assets have pods of their own."""
        return self.others is not None

    def size(self, dataset: Dataset) -> PodSize | None:
        """The size for a dataset: by its name, else by its kind, else that of the others."""
        return self.named.get(dataset.name) or self.named.get(dataset.kind) or self.others

    @classmethod
    def parse(cls, text: str) -> "StepPods":
        """The sizes that a setting names, such as `1:2Gi,ticks=2:4Gi,ml_signals=1:4Gi`.

        Raises:
            SettingError: it cannot be understood, names no asset or kind, or has no size for the others.
        """
        sizes: dict[str, PodSize] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, size = part.rpartition("=")
            found = _SIZE.fullmatch(size.strip())
            if found is None:
                raise SettingError(
                    f"MARKET_DATA_STEP_PODS: {part!r} is not understood; "
                    "write cores and memory as 1:2Gi or 500m:512Mi, for some assets as ticks=2:4Gi"
                )
            if equals and name.strip() not in {*DATASETS, *Kind}:
                raise SettingError(
                    f"MARKET_DATA_STEP_PODS: {name.strip()!r} is no asset and no kind; kinds are {', '.join(Kind)}"
                )
            sizes[name.strip()] = PodSize(*found.groups())
        if sizes and "" not in sizes:
            raise SettingError("MARKET_DATA_STEP_PODS: no size for all the other assets; begin with one, as 1:2Gi")
        return cls(sizes.pop("", None), sizes)
