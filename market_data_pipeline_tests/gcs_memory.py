"""What the test server for Google Cloud Storage keeps: buckets and objects in memory, under the service's own rules.

No HTTP here. A bucket keeps no old generations, as one without versioning.
"""

import base64
import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import google_crc32c


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Stored:
    """One generation of an object."""

    bucket: str
    name: str
    generation: int
    data: bytes
    content_type: str
    metadata: Mapping[str, str]

    @cached_property
    def crc32c(self) -> str:
        return encoded(google_crc32c.value(self.data).to_bytes(4, "big"))

    @cached_property
    def md5(self) -> str:
        return encoded(hashlib.md5(self.data, usedforsecurity=False).digest())

    def resource(self) -> dict[str, Any]:
        """The object as the JSON API tells it."""
        return {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "bucket": self.bucket,
            "name": self.name,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "size": str(len(self.data)),
            "crc32c": self.crc32c,
            "md5Hash": self.md5,
            "etag": f"e{self.generation}",
            **({"metadata": dict(self.metadata)} if self.metadata else {}),
        }


@dataclass
class Rewrite:
    """A server-side copy that takes several requests."""

    source: Stored
    target: tuple[str, str]
    done: int = 0


@dataclass
class Session:
    """A resumable upload: what has arrived, and the object once it is complete."""

    bucket: str
    resource: dict[str, Any]
    query: Mapping[str, str]
    data: bytearray = field(default_factory=bytearray)
    finished: Stored | None = None


class Memory:
    """All buckets. Every method is atomic; a caller that needs several holds `lock`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.buckets: dict[str, dict[str, Stored]] = {}
        self._generation = 0

    def create(self, name: str) -> None:
        with self.lock:
            if name in self.buckets:
                raise Refused(409, "Your previous request to create the named bucket succeeded and you already own it.")
            self.buckets[name] = {}

    def bucket(self, name: str) -> dict[str, Stored]:
        with self.lock:
            if name not in self.buckets:
                raise Refused(404, "The specified bucket does not exist.")
            return self.buckets[name]

    def get(self, bucket: str, name: str, query: Mapping[str, str], prefix: str = "") -> Stored:
        """An object, if `generation` and the conditions of a read hold (`prefix`: those on the source of a copy)."""
        with self.lock:
            found = self.bucket(bucket).get(name)
            wanted = query.get("sourceGeneration" if prefix else "generation")
            if found is None or (wanted is not None and int(wanted) != found.generation):
                raise Refused(404, f"No such object: {bucket}/{name}")
            self.check(found, query, prefix)
            return found

    def check(self, found: Stored | None, query: Mapping[str, str], prefix: str = "", *, reading: bool = False) -> None:
        """Compares the preconditions with what lies there (generation 0: nothing)."""
        generation = found.generation if found else 0
        match, other = (f"if{prefix}GenerationMatch", f"if{prefix}GenerationNotMatch")
        if match in query and int(query[match]) != generation:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
        if other in query and int(query[other]) == generation:
            raise Refused(304 if reading else 412, "At least one of the pre-conditions you specified did not hold.")

    def put(self, bucket: str, resource: Mapping[str, Any], data: bytes, query: Mapping[str, str]) -> Stored:
        """Writes an object, if the conditions hold and the checksums that the client sent are right."""
        name = query.get("name") or resource.get("name")
        if not name:
            raise Refused(400, "Required object name")
        if len(name.encode()) > 1024:
            raise Refused(400, "The specified object name is not valid.")
        with self.lock:
            objects = self.bucket(bucket)
            self.check(objects.get(name), query)
            self._generation = max(self._generation + 1, time.time_ns() // 1000)
            kind = resource.get("contentType") or "application/octet-stream"
            stored = Stored(bucket, name, self._generation, data, kind, resource.get("metadata") or {})
            for sent, own in (("crc32c", stored.crc32c), ("md5Hash", stored.md5)):
                if resource.get(sent, own) != own:
                    raise Refused(400, f"Provided {sent} {resource[sent]!r} doesn't match calculated {own!r}.")
            objects[name] = stored
            return stored

    def delete(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        with self.lock:
            self.get(bucket, name, query)
            del self.bucket(bucket)[name]

    def page(self, bucket: str, query: Mapping[str, str], limit: int) -> dict[str, Any]:
        """One page of a listing; names in the order of their UTF-8 bytes."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = base64.urlsafe_b64decode(query.get("pageToken", "")).decode()
        items: list[dict[str, Any]] = []
        folders: list[str] = []
        with self.lock:
            names = sorted((n for n in self.bucket(bucket) if n.startswith(prefix)), key=str.encode)
            last = after
            for name in names:
                rest = name[len(prefix) :]
                folder = prefix + rest.partition(delimiter)[0] + delimiter if delimiter and delimiter in rest else ""
                shown = folder or name
                if shown.encode() <= after.encode() or (folder and folders[-1:] == [folder]):
                    continue
                if len(items) + len(folders) == limit:
                    token = base64.urlsafe_b64encode(last.encode()).decode()
                    return {"items": items, "prefixes": folders, "nextPageToken": token}
                if folder:
                    folders.append(folder)
                else:
                    items.append(self.bucket(bucket)[name].resource())
                last = shown
        return {"items": items, "prefixes": folders}


def encoded(digest: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(digest).decode()
