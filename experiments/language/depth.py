"""Numbers of layers in models of another depth than the paper's."""

DEPTH, ADAPTED = 32, 30  # LLaMA-7B's layers, and how many the paper adapts
ABLATED = (ADAPTED, 32, 20, 10)  # the paper's numbers (Table 4), its own choice first
ENCODER_DEPTHS = 6  # at which the image encoder is read, evenly spaced [ours]


def scaled(layers: int, depth: int) -> int:
    """Return the share of `depth` layers that `layers` are of LLaMA-7B's 32, at least one.

    What leaves layers unadapted there leaves at least one here: 30 of 32 are 5 of 6.
    """
    most = depth if layers == DEPTH else max(1, depth - 1)
    return min(most, max(1, round(depth * layers / DEPTH)))


def rescaled(layers: int, old_depth: int, depth: int) -> int:
    """Return for a model of `depth` what `layers` are in a plan for one of `old_depth`.

    Both stand for one of the paper's numbers; a plan's rounding is not carried over.
    """
    papers = [each for each in ABLATED if scaled(each, old_depth) == layers]
    return scaled(papers[0] if papers else round(layers * DEPTH / old_depth), depth)


def evenly_spaced(depth: int) -> tuple[int, ...]:
    """Return the depths at which an image encoder of `depth` layers is read; the last is one."""
    wanted = (round(depth * i / ENCODER_DEPTHS) for i in range(1, ENCODER_DEPTHS + 1))
    return tuple(sorted({max(1, each) for each in wanted}))
