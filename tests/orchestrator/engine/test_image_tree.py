"""Which images may go, and what the disk gains: on lists as the engine gives them."""

from typing import Any

from orchestrator.engine.container import LABEL_APP, LABEL_INSTANCE
from orchestrator.engine.image_tree import ImageTree

OURS = {LABEL_INSTANCE: "ours", LABEL_APP: "app"}


def image(number: str, parent: str, size: int, *tags: str, **labels: str) -> dict[str, Any]:
    return {
        "Id": f"sha256:{number * 12}ff",
        "ParentId": f"sha256:{parent * 12}ff" if parent else "",
        "RepoTags": [*tags] or ["<none>:<none>"],
        "Labels": {key.replace("_", "."): text for key, text in labels.items()} or None,
        "Created": 1,
        "Size": size,
    }


def ids(text: str) -> list[str]:
    return [f"sha256:{number * 12}ff" for number in text]


def tree(*images: dict[str, Any], used: str = "") -> ImageTree:
    return ImageTree(images, [{"ImageID": number} for number in ids(used)])


# a: a base image; b, c: layers of ours; d: ours; e: the stage of a build.
IMAGES = (
    image("a", "", 100, "busybox:latest"),
    image("b", "a", 130),
    image("c", "b", 131),
    {**image("d", "c", 151, "fairlead/app:1"), "Labels": OURS},
    image("e", "a", 107),
    {**image("f", "a", 190, "other/app:1"), "Labels": {**OURS, LABEL_INSTANCE: "others"}},
)


def test_only_images_of_the_instance_are_its_own() -> None:
    assert [each.id for each in tree(*IMAGES).of_instance("ours")] == ids("d")


def test_what_a_container_is_made_of_stays_and_what_is_built_on() -> None:
    assert tree(*IMAGES, used="d").of_instance("ours") == []
    child = image("9", "d", 200, "mine:1")
    assert tree(*IMAGES, child).of_instance("ours") == []


def test_a_layer_is_found_by_its_short_id_while_nothing_needs_it() -> None:
    layers = {"b" * 12, "d" * 12, "e" * 12, "0" * 12}
    assert tree(*IMAGES).nameless(layers) == ids("e")
    assert tree(*IMAGES, used="e").nameless(layers) == []


def test_what_goes_with_an_image_are_the_layers_that_carry_nothing_else() -> None:
    assert tree(*IMAGES).freed(ids("de")) == dict(zip(ids("de"), [51, 7], strict=True))
    # Two that stand on the same layers: it goes with the last of them.
    second = {**image("8", "c", 141, "fairlead/app:2"), "Labels": OURS}
    assert tree(*IMAGES, second).freed(ids("d")) == dict(zip(ids("d"), [20], strict=True))
    assert tree(*IMAGES, second).freed(ids("d8")) == dict(zip(ids("d8"), [20, 41], strict=True))
    assert tree(*IMAGES, used="c").freed(ids("d")) == dict(zip(ids("d"), [20], strict=True))
