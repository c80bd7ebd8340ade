"""LoRA files as others write them, against what their own loaders make of the weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from studio.errors import UsageError
from studio.models.checkpoint_names import checkpoint_name
from studio.models.load import DiffusionModel, load_model
from studio.models.lora import lay_over
from studio.models.registry import ModelRef, resolve
from studio.workspace import Workspace

RANK, STRENGTH = 3, 0.7
TARGETS = {"unet": ["to_q", "to_out.0", "conv1", "proj_in", "conv_shortcut"], "text": ["q_proj", "out_proj", "fc1"]}
STOCK: dict[str, Any] = {"sd2": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}


def weights(parts: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {
        f"{component}.{name.replace('.base_layer', '')}": one.detach().clone()
        for component, part in parts.items()
        for name, one in part.state_dict().items()
        if "lora" not in name
    }


def trained(folder: Path, target: Path, rank: int = RANK, **options: Any) -> Path:
    """A LoRA over every part with text and pictures, with random weights, written by the stock pipeline."""
    model = load_model(ModelRef("base", folder), "cpu")
    torch.manual_seed(5)
    saved: dict[str, Any] = {}
    for name, part in model.parts.items():
        if name == "vae":
            continue
        kind = "unet" if name == "unet" else "text"
        part.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS[kind], **options))
        for one in part.parameters():
            if one.requires_grad:
                nn.init.normal_(one, std=0.3) if one.ndim > 1 else one.data.mul_(1 + 0.3 * torch.rand_like(one))
        saved[f"{name}_lora_layers"] = get_peft_model_state_dict(part)
    is_xl = model.text_encoder_2 is not None
    STOCK["sdxl" if is_xl else "sd2"].save_lora_weights(target, **saved)
    return target / "pytorch_lora_weights.safetensors"


def as_kohya(path: Path, model: DiffusionModel, alpha: float, checkpoint_names: bool, folder: Path) -> Path:
    """The same with kohya's names; its alpha says how strong the file is."""
    state = {}
    is_xl = model.text_encoder_2 is not None
    starts = {"unet": "lora_unet", "text_encoder": "lora_te1" if is_xl else "lora_te", "text_encoder_2": "lora_te2"}
    for key, tensor in load_file(path).items():
        component, _, name = key.partition(".")
        module, ending = name.rsplit(".lora_", 1)
        module = module if component == "unet" or module.startswith("text_model") else f"text_model.{module}"
        if component == "unet" and checkpoint_names:
            module = checkpoint_name(module, model.unet.config)
        stem = f"{starts[component]}_{module}".replace(".", "_")
        state[f"{stem}.lora_{'down' if ending.startswith('A') else 'up'}.weight"] = tensor
        state[f"{stem}.alpha"] = torch.tensor(alpha)
    save_file(state, target := folder / "kohya.safetensors")
    return target


@pytest.fixture(scope="module")
def written(narrow_v: Path, narrow_xl: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A LoRA file of each family, as diffusers writes it."""
    folders = {"sd2": narrow_v, "sdxl": narrow_xl}
    return {family: trained(folder, tmp_path_factory.mktemp(family)) for family, folder in folders.items()}


def stock_weights(folder: Path, family: str, path: Path) -> dict[str, torch.Tensor]:
    pipeline = STOCK[family].from_pretrained(folder, local_files_only=True)
    pipeline.load_lora_weights(path.parent, weight_name=path.name, local_files_only=True)
    parts = [name for name in ("unet", "text_encoder", "text_encoder_2") if getattr(pipeline, name, None) is not None]
    pipeline.fuse_lora(components=parts, lora_scale=STRENGTH)
    return weights({name: getattr(pipeline, name) for name in parts})


def our_weights(folder: Path, path: Path, strength: float = STRENGTH) -> dict[str, torch.Tensor]:
    model = load_model(ModelRef("base", folder), "cpu")
    lay_over(model.parts, path, strength)
    return weights(model.parts)


def assert_same(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> None:
    changed = {name for name, one in theirs.items() if not torch.equal(one, base[name])}
    for start in {name.partition(".")[0] for name in theirs}:
        assert any(name.startswith(f"{start}.") for name in changed), start
    for name, one in theirs.items():
        assert torch.allclose(mine[name], one, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_a_file_of_diffusers_changes_the_weights_as_its_own_loader_does(
    family: str, narrow_v: Path, narrow_xl: Path, written: dict[str, Path]
) -> None:
    folder, path = {"sd2": narrow_v, "sdxl": narrow_xl}[family], written[family]
    model = load_model(ModelRef("base", folder), "cpu")
    base = weights(model.parts)
    assert_same(our_weights(folder, path), stock_weights(folder, family, path), base)


@pytest.mark.parametrize(("family", "checkpoint_names"), [("sd2", False), ("sdxl", True)])
def test_a_file_of_kohya_changes_the_weights_as_the_stock_loader_does(
    family: str, checkpoint_names: bool, narrow_v: Path, narrow_xl: Path, written: dict[str, Path], tmp_path: Path
) -> None:
    folder = {"sd2": narrow_v, "sdxl": narrow_xl}[family]
    model = load_model(ModelRef("base", folder), "cpu")
    path = as_kohya(written[family], model, 1.5, checkpoint_names, tmp_path)
    # The stock loader does not read the convolutions among them, which kohya trains with other options.
    save_file({key: one for key, one in load_file(path).items() if "attn" in key or "lora_te" in key}, path)
    assert_same(our_weights(folder, path), stock_weights(folder, family, path), weights(model.parts))


def test_convolutions_under_kohyas_names_are_those_of_diffusers(
    narrow_xl: Path, written: dict[str, Path], tmp_path: Path
) -> None:
    path = written["sdxl"]
    model = load_model(ModelRef("base", narrow_xl), "cpu")
    kohya = as_kohya(path, model, RANK / 2, True, tmp_path)
    mine, theirs = our_weights(narrow_xl, kohya, 1.0), our_weights(narrow_xl, path, 0.5)
    assert_same(mine, {name: one for name, one in theirs.items() if not name.startswith("vae")}, weights(model.parts))


def test_a_file_of_peft_takes_its_strength_from_the_settings_beside_it(narrow_v: Path, tmp_path: Path) -> None:
    model = load_model(ModelRef("base", narrow_v), "cpu")
    base = weights({"unet": model.unet})
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["to_q"], init_lora_weights=False)
    wrapped = get_peft_model(model.unet, config)
    wrapped.save_pretrained(tmp_path)
    merged = weights({"unet": wrapped.merge_and_unload()})
    mine = our_weights(narrow_v, tmp_path / "adapter_model.safetensors", 1.0)
    assert_same({name: one for name, one in mine.items() if name in merged}, merged, base)


@pytest.mark.parametrize("strength", [1.0, 0.0])
def test_a_dora_changes_directions_and_lengths_as_peft_does(strength: float, narrow_v: Path, tmp_path: Path) -> None:
    model = load_model(ModelRef("base", narrow_v), "cpu")
    base = weights({"unet": model.unet})
    torch.manual_seed(6)
    model.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["to_q"], use_dora=True))
    for one in model.unet.parameters():
        if one.requires_grad:
            one.data += 0.1 * torch.rand_like(one)
    state = {f"unet.{name}": one.contiguous() for name, one in get_peft_model_state_dict(model.unet).items()}
    assert any("lora_magnitude_vector" in name for name in state)
    save_file(state, tmp_path / "dora.safetensors")
    for layer in [one for one in model.unet.modules() if isinstance(one, BaseTunerLayer)]:
        layer.merge()
    mine = our_weights(narrow_v, tmp_path / "dora.safetensors", strength)
    if strength:
        assert_same(mine, weights({"unet": model.unet}), base)
    else:
        assert all(torch.allclose(mine[name], one, atol=1e-6) for name, one in base.items())


def test_nothing_is_left_beside_the_weights(narrow_v: Path, written: dict[str, Path]) -> None:
    path = written["sd2"]
    plain, model = (load_model(ModelRef("base", narrow_v), "cpu") for _ in range(2))
    lay_over(model.parts, path)
    for name, part in model.parts.items():
        assert list(part.state_dict()) == list(plain.parts[name].state_dict())
        assert not any(isinstance(module, BaseTunerLayer) for module in part.modules())


def test_what_does_not_fit_is_refused_in_a_sentence(narrow_v: Path, written: dict[str, Path], tmp_path: Path) -> None:
    parts = load_model(ModelRef("base", narrow_v), "cpu").parts
    with pytest.raises(UsageError, match="does not fit the model"):
        lay_over(parts, written["sdxl"])
    wrong: dict[str, dict[str, torch.Tensor]] = {
        "another method": {"lora_unet_a.hada_w1_a": torch.ones(1)},
        "of no LoRA": {"unet.conv_in.weight": torch.ones(1)},
        "holds half": {"unet.mid_block.attentions.0.proj_in.lora_A.weight": torch.ones(1, 128)},
        "differs in size": {
            "unet.mid_block.attentions.0.proj_in.lora_A.weight": torch.ones(1, 7),
            "unet.mid_block.attentions.0.proj_in.lora_B.weight": torch.ones(7, 1),
        },
        "holds no LoRA": {},
    }
    for said, state in wrong.items():
        save_file(state, tmp_path / "wrong.safetensors")
        with pytest.raises(UsageError, match=said):
            lay_over(parts, tmp_path / "wrong.safetensors")


class TestLaidOverAName:
    def test_a_file_has_its_strength_behind_a_colon(
        self, narrow_v: Path, written: dict[str, Path], made_workspace: Workspace
    ) -> None:
        path = written["sd2"]
        plain = resolve(made_workspace, str(narrow_v))
        ref = resolve(made_workspace, str(narrow_v), [f"{path}:0.7", str(path)])
        assert [one.name for one in ref.extra] == [f"{path}:0.7", f"{path}:1"]
        assert len({ref.weights_sha256(), plain.weights_sha256()}) == 2
        once = resolve(made_workspace, str(narrow_v), [f"{path}:0.7"])
        theirs = our_weights(narrow_v, path)
        assert np.allclose(load_model(once, "cpu").unet.conv_in.weight, theirs["unet.conv_in.weight"])
        name = "mid_block.attentions.0.proj_in.weight"
        assert torch.equal(load_model(once, "cpu").unet.state_dict()[name], theirs[f"unet.{name}"])

    @pytest.mark.parametrize(
        ("text", "said"),
        [("none.safetensors", "no file"), ("none:much", "no strength"), ("none:0.5", "no run"), ("x:99", "reach")],
    )
    def test_what_is_not_there_is_told(self, text: str, said: str, narrow_v: Path, made_workspace: Workspace) -> None:
        with pytest.raises(UsageError, match=said):
            resolve(made_workspace, str(narrow_v), [text])
