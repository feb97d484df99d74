"""A container is made from the very image that was built, whatever its tag names by now."""

from orchestrator.deploys.steps.start import create_container
from tests.orchestrator.workshop import Workshop, in_workshop


def test_it_shows_the_tag_only_where_that_is_the_image(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        await shop.has_network()
        tag, other = [await shop.shell(f"exit {number}") for number in (1, 2)]
        (built,) = {one.id for one in await shop.engine.images() if tag in one.tags}

        made = await create_container(shop.engine, shop.spec(built), tag)
        assert (made.image, made.image_id) == (tag, built)

        repository, number = tag.split(":")
        shop.raw.tag(other, repository, number)
        spec = shop.spec(built)
        moved = await create_container(shop.engine, spec, tag)
        assert (moved.image, moved.image_id, moved.name) == (built, built, spec.name)

        gone = await create_container(shop.engine, shop.spec(built), f"{shop.instance}/app:gone")
        assert (gone.image, gone.image_id) == (built, built)
        assert len(await shop.engine.containers()) == 3

    in_workshop(engine_host, work)
