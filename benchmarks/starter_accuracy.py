"""Does the starter draw what it is asked for, of all that there is, and not what it was shown?

    python benchmarks/starter_accuracy.py WORKSPACE --data rsicd [--prompts captions|class] [--tiles 20]

Tiles of captions that were never trained on are named by a classifier: a small convolutional network trained on the
data set's train split and tested on its valid split, which gives its accuracy A on real pictures; no part of the
starter is in it. It is kept in the workspace and used again. Prints as JSON:

- A, the share of tiles that it names rightly, their ratio, and the classes it names worst;
- precision and recall of the real split, k = 3, in the features of the shipped scene network;
- the share of tiles nearer to a training picture, over eight orientations, than the first percentile of the real split;
- CPU seconds for one tile.

Writes a contact sheet beside the batch, a class after the other.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from studio import requests
from studio.datasets.augmentation import orient
from studio.datasets.captions import readable_class
from studio.datasets.dataset import Dataset, Picture, open_dataset
from studio.events import Phase
from studio.files import replacing
from studio.generation.plans import PromptLine, plan_tiles, planned, tile_name
from studio.images import contact_sheet, fit_square, open_picture
from studio.measures.features import Network, open_network
from studio.measures.neighbours import nearest, precision_and_recall
from studio.session import Session
from studio.settings import D4, GenerateSettings
from studio.workspace import Workspace, free_name, open_workspace

SIZE_PX = 64
EPOCHS, BATCH, RATE = 12, 64, 3e-3


def judge_network(classes: int) -> nn.Module:
    """Four stages of two convolutions, 32 to 256 channels, averaged at the end."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128, 256):
        for stride in (1, 2):
            layers += [
                nn.Conv2d(channels, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels, classes))


def pixels(dataset: Dataset, pictures: list[Picture]) -> Tensor:
    arrays = [np.asarray(fit_square(open_picture(dataset.path(one)), SIZE_PX)) for one in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def normalised(pictures: Tensor) -> Tensor:
    return pictures.float() / 127.5 - 1


def train_judge(network: nn.Module, pictures: Tensor, labels: Tensor) -> None:
    """AdamW with one cycle, all eight orientations, and small shifts."""
    steps = EPOCHS * (len(pictures) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for step in range(steps):
        chosen = torch.randint(len(pictures), (BATCH,), generator=generator)
        batch = normalised(pictures[chosen])
        turns, flip, shift = torch.randint(0, 4, (3,), generator=generator).tolist()
        batch = batch.rot90(turns, (2, 3))
        batch = batch.flip(3) if flip % 2 else batch
        batch = batch.roll((shift - 2, flip - 2), (2, 3))
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(network(batch).float(), labels[chosen], label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(json.dumps({"type": "progress", "step": step, "steps": steps, "loss": float(loss)}), flush=True)


@torch.no_grad()
def named(network: nn.Module, pictures: Tensor) -> Tensor:
    network.eval()
    return torch.cat([network(normalised(some)).argmax(1) for some in pictures.split(256)])


def judge(workspace: Workspace, dataset: Dataset, test_split: str) -> tuple[nn.Module, float]:
    """The classifier and its accuracy on the real test split."""
    classes = dataset.classes
    network = judge_network(len(classes))
    path = workspace.cache / f"judge-{dataset.name}-{dataset.split_sha256('train')[:12]}.pt"
    if path.is_file():
        network.load_state_dict(torch.load(path, weights_only=True))
    else:
        torch.manual_seed(0)
        training = [one for one in dataset.pictures("train") if one.label]
        train_judge(network, pixels(dataset, training), torch.tensor([classes.index(one.label) for one in training]))
        with replacing(path) as temporary:
            torch.save(network.state_dict(), temporary)
    test = [one for one in dataset.pictures(test_split) if one.label]
    truth = torch.tensor([classes.index(one.label) for one in test])
    return network, float((named(network, pixels(dataset, test)) == truth).float().mean())


def prompts_of(dataset: Dataset, kind: str, split: str, tiles: int) -> list[PromptLine]:
    """The same number of prompts for each class: the class template, or captions of a split never trained on."""
    lines = []
    for label in dataset.classes:
        if kind == "class":
            lines += [PromptLine(f"a satellite image of {readable_class(label)}", label=label)] * tiles
        else:
            captions = [text for one in dataset.pictures(split) if one.label == label for text in one.captions]
            lines += [PromptLine(captions[(7 * index) % len(captions)], label=label) for index in range(tiles)]
    return [PromptLine(line.prompt.replace("{", "(").replace("}", ")"), label=line.label) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--prompts", choices=["captions", "class"], default="captions")
    parser.add_argument("--split", default="valid", help="real split that A is measured on and captions are taken from")
    parser.add_argument("--tiles", type=int, default=20)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    workspace = open_workspace(args.workspace)
    dataset = open_dataset(workspace, args.data)
    network, real = judge(workspace, dataset, args.split)
    lines = prompts_of(dataset, args.prompts, args.split, args.tiles)
    settings = GenerateSettings(model=args.model, steps=args.steps, guidance=args.guidance, batch=30)
    name = free_name(f"judged-{args.prompts}", workspace.taken_names())
    job = requests.generate_job(workspace, settings, plan_tiles(lines, 0, 1), name)
    began = time.process_time()
    finished = Session(workspace).execute(
        job, lambda event: print(f"{event.done}/{event.total}", flush=True) if isinstance(event, Phase) else None
    )
    seconds = time.process_time() - began
    tiles = planned(job.folder.path / "plan.jsonl")
    pictures = [job.folder.path / "tiles" / tile_name(one) for one in tiles]
    sheet = job.folder.path / "sheet.png"
    contact_sheet([open_picture(path) for path in pictures[: 30 * args.tiles]], columns=args.tiles).save(sheet)
    facts = report(network, dataset, [one.label for one in tiles], tile_pixels(pictures), real)
    facts |= likeness(workspace, dataset, args.split, tile_pixels(pictures))
    facts |= {"cpu_seconds_a_tile": seconds / len(tiles), "outcome": finished.outcome, "batch": name}
    print(json.dumps(facts | {"sheet": str(sheet)}))


def tile_pixels(paths: list[Path]) -> Tensor:
    arrays = [np.asarray(fit_square(open_picture(path), SIZE_PX)) for path in paths]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def report(network: nn.Module, dataset: Dataset, labels: list[str], pictures: Tensor, real: float) -> dict[str, Any]:
    truth = torch.tensor([dataset.classes.index(label) for label in labels])
    right = named(network, pictures) == truth
    by_class = {name: float(right[truth == place].float().mean()) for place, name in enumerate(dataset.classes)}
    share = float(right.float().mean())
    worst = dict(sorted(by_class.items(), key=lambda one: one[1])[:8])
    return {"A": real, "named_rightly": share, "ratio": share / real, "tiles": len(labels), "worst": worst}


def likeness(workspace: Workspace, dataset: Dataset, split: str, tiles: Tensor) -> dict[str, Any]:
    """Precision, recall and memorisation in the features of the shipped scene network."""
    scenes = open_network("scenes")
    real = vectors(scenes, pixels(dataset, dataset.pictures(split)))
    made = vectors(scenes, tiles)
    count = min(len(real), len(made))
    chosen = np.random.default_rng(0).permutation(len(real))[:count]
    precision, recall = precision_and_recall(real[chosen], made[:count] if len(made) == count else made[chosen])
    trained_on = training_vectors(workspace, dataset, scenes)
    usual = np.percentile(nearest(real, trained_on)[0], 1)
    near = nearest(made, trained_on)[0] < usual
    return {"precision": precision, "recall": recall, "nearer_than_1_percent_of_real": float(near.mean())}


def vectors(scenes: Network, pictures: Tensor) -> np.ndarray:
    return np.concatenate([scenes(some.permute(0, 2, 3, 1).numpy()) for some in pictures.split(128)])


def training_vectors(workspace: Workspace, dataset: Dataset, scenes: Network) -> np.ndarray:
    """Features of the training pictures in all eight orientations, computed once."""
    name = f"judge-{dataset.split_sha256('train')[:12]}-{scenes.weights_sha256[:12]}.npy"
    path = workspace.cache / name
    if not path.is_file():
        pictures = pixels(dataset, dataset.pictures("train"))
        found = np.concatenate([vectors(scenes, orient(pictures, one).contiguous()) for one in D4])
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, found)
    loaded: np.ndarray = np.load(path)
    return loaded


if __name__ == "__main__":
    main()
