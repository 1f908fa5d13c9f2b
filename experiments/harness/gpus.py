"""GPUs by name: their memory, and the speed that costs are predicted with."""

from dataclasses import dataclass

# The share of the peak that training is expected to reach: declared, not tuned. On an H100,
# LLaMA-7B reached 31 % of the rate of a matrix product with compiled blocks, and 9 % without.
UTILISATION = 0.31
DEFAULT = "a100"


@dataclass(frozen=True)
class Gpu:
    """A GPU's memory, and its peak in bfloat16 without sparsity, from the maker's data sheet."""

    name: str
    memory_gb: float  # 1e9 bytes
    tflops: float

    def hours(self, flops: float, utilisation: float = UTILISATION) -> float:
        """The time that so many operations take."""
        return flops / (self.tflops * 1e12 * utilisation) / 3600


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100", 85.0, 312.0),
        Gpu("a100-40gb", 42.4, 312.0),
        Gpu("h100", 85.0, 989.0),
        Gpu("h200", 150.0, 989.0),
        Gpu("l40s", 48.0, 362.0),
        Gpu("a6000", 51.0, 155.0),
        Gpu("rtx4090", 25.3, 165.0),
    )
}
