"""Owns which images an engine has, how they build on each other, and what goes with one. Pure.

An image is removed together with those below it that have no name and carry nothing else
(`DELETE /images/ID` without `noprune`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.engine.container import LABEL_INSTANCE, Image, parse_image

# Digits of an image's id in the output of a build.
SHORT_ID = 12


class ImageTree:
    """From `GET /images/json?all=1` and `GET /containers/json?all=1`."""

    def __init__(
        self, images: Sequence[Mapping[str, Any]], containers: Iterable[Mapping[str, Any]]
    ) -> None:
        self._images = {each["Id"]: parse_image(each) for each in images}
        self._labels = {each["Id"]: each["Labels"] or {} for each in images}
        self._parents = {each["Id"]: each.get("ParentId", "") for each in images}
        self._children: dict[str, set[str]] = {}
        for image, parent in self._parents.items():
            self._children.setdefault(parent, set()).add(image)
        self._used = {each["ImageID"] for each in containers}

    def of_instance(self, instance: str) -> list[Image]:
        """Those that were built for it, and that the engine would remove if it is told to."""
        return [
            image
            for number, image in self._images.items()
            if self._labels[number].get(LABEL_INSTANCE) == instance and self._is_free(number)
        ]

    def nameless(self, layers: Collection[str]) -> list[str]:
        """The ids of those of these images (short ids) that nothing has come to need since."""
        return [
            number
            for number, image in self._images.items()
            if not image.tags and _short(number) in layers and self._is_free(number)
        ]

    def freed(self, removed: Iterable[str]) -> dict[str, int]:
        """Bytes that each of these, and what goes with it, takes beside those that stay."""
        gone: set[str] = set()
        sizes: dict[str, int] = {}
        for image in removed:
            sizes[image] = 0
            each = image
            while each in self._images and (each == image or self._goes_with(each, gone)):
                gone.add(each)
                parent = self._images.get(self._parents[each])
                sizes[image] += self._images[each].size - (parent.size if parent else 0)
                each = self._parents[each]
        return sizes

    def _is_free(self, image: str) -> bool:
        return image not in self._used and not self._children.get(image)

    def _goes_with(self, image: str, gone: Collection[str]) -> bool:
        return (
            not self._images[image].tags
            and image not in self._used
            and all(child in gone for child in self._children[image])
        )


def _short(image: str) -> str:
    return image.removeprefix("sha256:")[:SHORT_ID]
