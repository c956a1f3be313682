"""The reference that the context holds in place of a value that is too large (Spec 5.5)."""

from __future__ import annotations

from dataclasses import dataclass

from kilroy_engine.traversal.outcome import Json

_MARK = "artifact"


@dataclass(frozen=True, slots=True)
class ArtifactReference:
    """Replaces the value of the context key ``name``. ``path`` is absolute, ``content_hash`` is ``sha256:<hex>``."""

    id: str
    name: str
    path: str
    size_bytes: int
    content_hash: str

    def as_json(self) -> dict[str, Json]:
        """The reference as the JSON object that the context holds."""
        return {
            _MARK: self.id,
            "name": self.name,
            "path": self.path,
            "size_bytes": self.size_bytes,
            "content_hash": self.content_hash,
        }


def read_artifact_reference(value: Json) -> ArtifactReference | None:
    """Reads a context value as a reference; None where the value is none."""
    match value:
        case {
            "artifact": str(id_),
            "name": str(name),
            "path": str(path),
            "size_bytes": int(size_bytes),
            "content_hash": str(content_hash),
        }:
            return ArtifactReference(id_, name, path, size_bytes, content_hash)
        case _:
            return None
