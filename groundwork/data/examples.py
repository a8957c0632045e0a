"""Examples that stay in their files, read many at a time. Read `Source.examples` first.

One call for many records costs a fortieth of what a call for each costs. This module does without
JAX, since worker processes import it.
"""

# N examples, H W C image height, width, channels

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from groundwork.data import augment as augment_lib
from groundwork.data import decoding
from groundwork.errors import UserError

Window = tuple[int, int]  # see `augment.scaled`
Example = tuple[np.ndarray, int]  # image uint8 [H, W, C], label


class Cache(Protocol):
    """Decoded examples by (window, place), such as a dict."""

    def get(self, key: tuple[Window, int], /) -> Example | None:
        """Returns the example, or None."""

    def __setitem__(self, key: tuple[Window, int], example: Example, /) -> None: ...


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of a split of TFDS: {"image": the bytes of a file, "label": int}.

    `serialized` has random access to them as TFDS stores them: `tf.train.Example` as bytes.
    """

    serialized: Any

    def __len__(self) -> int:
        return len(self.serialized)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        from tensorflow_datasets.proto import tf_example_pb2

        records = []
        for content in self.serialized.__getitems__(places):
            feature = tf_example_pb2.Example.FromString(content).features.feature
            image, label = feature["image"].bytes_list, feature["label"].int64_list
            records.append({"image": image.value[0], "label": label.value[0]})
        return records


@dataclasses.dataclass(frozen=True)
class Source:
    """Random access to decoded examples: `source[i]` → {"image": uint8 [H, W, C], "label": int}.

    `records[k]` has the image file's bytes, and `records.__getitems__` gives several; example i is
    record `places[i]`. `shape` is the (H, W) that all images must have, or None, and `how` says
    what to do about others. A record that cannot be used raises a UserError. `cache` keeps what was
    decoded, or is None.
    """

    name: str
    split: str
    records: Any
    places: np.ndarray  # [N]
    classes: int
    channels: int
    shape: tuple[int, int] | None = None
    cache: Cache | None = None
    how: str = "give data.image_size"  # what to do about images that differ in size

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ((image, label),) = self.examples([index])
        return {"image": image, "label": label}

    def examples(
        self, indices: Sequence[int] | np.ndarray, window: Window = augment_lib.AS_STORED
    ) -> list[Example]:
        """Returns examples, their images `scaled` to a window; an image is decoded once a call.

        Raises:
          UserError: a record is damaged, or has another size or depth, or a label out of range.
        """
        places = self.places[np.asarray(indices, np.int64)].tolist()
        kept: Cache = {} if self.cache is None else self.cache
        found = {place: kept.get((window, place)) for place in places}
        lacking = [place for place, example in found.items() if example is None]
        for place, record in zip(lacking, self._records(lacking), strict=True):
            image, label = self._decoded(place, record)
            image = np.ascontiguousarray(
                augment_lib.scaled(image, *window)
            )  # no view of a larger one
            found[place] = kept[window, place] = image, label
        return [found[place] for place in places]  # type: ignore[misc]

    def check_labels(self, indices: Sequence[int] | np.ndarray) -> None:
        """Refuses labels out of range, without decoding an image."""
        places = self.places[np.asarray(indices, np.int64)].tolist()
        for place, record in zip(places, self._records(places), strict=True):
            self._label(place, record)

    def unreadable(self, place: int, error: Exception) -> UserError:
        """Returns the error that names a record that cannot be read."""
        reason = " ".join(str(error).split())[:200]
        return UserError(f"{self._called(place)} cannot be read ({reason}): damaged; get it again")

    def _called(self, place: int) -> str:
        return f"example {place} of {self.split} of {self.name}"

    def _records(self, places: Sequence[int]) -> list[dict[str, Any]]:
        if not places:
            return []
        try:
            return self.records.__getitems__(places)
        except Exception:  # one of them is damaged: read one by one, it is named
            return [self._record(place) for place in places]

    def _record(self, place: int) -> dict[str, Any]:
        try:
            return self.records[place]
        except Exception as error:  # damaged records fail in many ways
            raise self.unreadable(place, error) from error

    def _decoded(self, place: int, record: dict[str, Any]) -> Example:
        try:
            image = decoding.decode(record["image"], self.channels)
        except UserError as error:
            raise UserError(f"{self._called(place)} {error}") from error
        except Exception as error:  # damaged images fail in many ways
            raise self.unreadable(place, error) from error
        if self.shape not in (None, image.shape[:2]):
            raise UserError(
                f"{self._called(place)} has {image.shape[:2]} pixels, others {self.shape}: "
                f"{self.how}"
            )
        return image, self._label(place, record)

    def _label(self, place: int, record: dict[str, Any]) -> int:
        label = int(record["label"])
        if not 0 <= label < self.classes:
            raise UserError(
                f"{self._called(place)} has label {label}, expected 0 to {self.classes - 1}: if "
                "this split comes without labels, evaluate another one with data.test_split"
            )
        return label
