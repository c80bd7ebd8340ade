"""The fixed prompts that tell what a model knows: photographs, which a fine-tune may forget, and remote sensing."""

NATURAL = (
    "a photo of a cat sleeping on a sofa",
    "a portrait photo of an old fisherman",
    "a bowl of fruit on a wooden table",
    "a red bicycle leaning against a brick wall",
)
REMOTE_SENSING = (
    "a satellite image of a crop field",
    "a satellite image of a river through a forest",
    "an aerial view of a dense residential area",
    "a satellite image of a harbour with ships",
)
