"""The generators that san looks through: found in a finished `train-styles` run, or trained inside this one."""

from stylealign.detectors.learning import Learning
from stylealign.detectors.san.network import SAN, SANConfig
from stylealign.errors import UserError
from stylealign.jobs import train_styles
from stylealign.progress import say


def find_generators(learning: Learning) -> None:
    """Load into the network the generators of the given `train-styles` run, or of one trained here, inside the detector's run."""
    config, model = learning.config, learning.model
    assert isinstance(model, SAN)
    assert model.generators is not None
    network: SANConfig = config.san
    run = config.styles
    if run is None:
        run, small, loop = learning.folder / "styles", config.san_styles, config.loop
        # The selection of the first data set of the mix; of synthetic faces all. Labels are not looked at.
        folder = learning.faces.folder
        chosen = {source.path: (source.split, source.subset) for source in config.data}
        if config.real is not None:
            chosen[config.real] = (config.real_split, config.subset)
        split, subset = chosen.get(folder, (None, None))
        say(
            f"training the generators of san, {small.steps} updates: a finished train-styles run can be given with --styles"
        )
        train_styles.main(
            train_styles.TrainStyles(
                data=folder, run=run, split=split, subset=subset, crop=config.crop, augment=config.augment,
                styles=small.styles, generator=network.generator, cyclegan=small.cyclegan,
                loop=type(loop)(
                    steps=small.steps, batch_size=small.batch_size, seed=loop.seed + 3003, ema_decay=0.0, precision=loop.precision,
                    accelerator=loop.accelerator, devices=loop.devices, num_nodes=loop.num_nodes,
                ),
            )
        )  # fmt: skip
    generators, card = train_styles.load_styles(run)
    state = generators.state_dict()
    own = model.generators.state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in own.items()}:
        there = card["network"]
        raise UserError(
            f"{run}: its generators have width {there['width']} and {there['blocks']} blocks, this detector's {network.generator.width} and "
            f"{network.generator.blocks}; give --san.generator.width {there['width']} --san.generator.blocks {there['blocks']}"
        )
    if card["crop"]["size"] != learning.size:
        say(
            f"warning: {run}: its generators were trained on crops of {card['crop']['size']} px, this detector's have {learning.size}"
        )
    model.generators.load_state_dict(state)
