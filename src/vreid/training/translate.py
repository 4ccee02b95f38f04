"""Training of unpaired image translation from synthetic to real images (SPGAN).

Two generators translate each domain to the other. Their losses: a patch discriminator for each domain (adversarial),
translating back restores the image (cycle), images of the target domain stay unchanged (identity), and a Siamese
network keeps a translation close to its image and far from images of the target domain. Specification: methods,
section 7.

Shapes: A synthetic and B real images in a batch (equally many except in the last batch), S side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from vreid.configuration import plain_values
from vreid.data.augment import TestTransform, TrainTransform
from vreid.data.dataset import fingerprint
from vreid.data.loading import Batch, ImageDataset, train_loader
from vreid.data.records import Records
from vreid.data.sampling import PairedSampler
from vreid.data.seeds import generator, seed_everything
from vreid.errors import InputError
from vreid.files import atomic_write
from vreid.losses.translation import (
    Embeddings,
    adversarial_loss,
    reconstruction_loss,
    self_similarity_loss,
    siamese_loss,
)
from vreid.models.spgan import Discriminator, Generator, ImagePool, SiameseNet
from vreid.models.weights import save_weights
from vreid.progress import Progress
from vreid.ranges import check_settings, in_range
from vreid.training.distributed import ProcessGroup
from vreid.training.loop import Loop
from vreid.training.optimiser import OptimiserConfig, build_optimiser
from vreid.training.precision import Precision, autocast, choose_precision
from vreid.training.run_folder import RunFolder, environment

SHOWN = 6
"""Images of either domain in a sample grid."""
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class TranslateConfig:
    """Settings that determine the generators, besides the images; the defaults are those of SPGAN for VehicleX.

    Attributes:
        recipe: name of the recipe in `vreid.recipes.spgan.TRANSLATIONS`.
        size: S, side of the networks' square inputs, a multiple of 4.
        load: side to which images are resized before a random crop of S x S. 286 as in SPGAN; the VehicleX port has
            512 and so trains on magnified quarters, although whole images are translated.
        filters: channels of the first layer of every network.
        blocks: residual blocks of a generator.
        masked: generators blend their output into the image by a mask instead of generating the whole image.
        repeat: generators upsample by repeating pixels instead of transposed convolutions, which cause checkerboard
            artefacts in short trainings.
        patch_layers: layers of stride 2 of a discriminator.
        metric_stages: stages of the Siamese network; each divides the side by 4.
        epochs: passes over the smaller domain.
        batch_size: images per domain.
        learning_rate: constant learning rate of Adam with betas (0.5, 0.999).
        cycle, identity, keeping: weights of the cycle, identity and self-similarity losses.
        margin: margin of the contrastive losses.
        generator_every: interval of generator updates in steps; the other networks are updated in every step.
        siamese_from, keeping_from: first epochs (from 0) with Siamese training and with the self-similarity loss.
        pool: number of previously generated images per domain that are shown to the discriminator again.
        precision: number type of convolutions; "auto" is resolved on the machine and recorded in the run.
        seed: seed of initial weights, batches, augmentation and pools.

    Raises:
        InputError: a number is out of range, or sizes do not fit each other.
    """

    recipe: str = "spgan"
    size: int = in_range(256, least=8, most=4096)
    load: int = in_range(286, least=8, most=4096)
    filters: int = in_range(64, least=1, most=1024)
    blocks: int = in_range(9, least=0, most=100)
    masked: bool = False
    repeat: bool = False
    patch_layers: int = in_range(3, least=1, most=6)
    metric_stages: int = in_range(3, least=1, most=6)
    epochs: int = in_range(20, least=1, most=100_000)
    batch_size: int = in_range(4, least=1, most=10_000)
    learning_rate: float = in_range(2e-4, least=1e-12, most=1e30)
    cycle: float = in_range(10.0, least=0, most=1_000_000)
    identity: float = in_range(5.0, least=0, most=1_000_000)
    keeping: float = in_range(2.0, least=0, most=1_000_000)
    margin: float = in_range(2.0, least=0, most=1_000_000)
    generator_every: int = in_range(2, least=1, most=10_000)
    siamese_from: int = in_range(1, least=0, most=100_000)
    keeping_from: int = in_range(2, least=0, most=100_000)
    pool: int = in_range(50, least=0, most=1_000_000)
    precision: Precision = "auto"
    seed: int = in_range(1234, least=0, most=2**63 - 1)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.size % 4:
            raise InputError(f"size is {self.size}; the generators halve it twice; give a multiple of 4.")
        if self.load < self.size:
            raise InputError(f"load is {self.load}; crops of size {self.size} are taken from it; give at least that.")
        if self.size >> self.patch_layers < 3:
            raise InputError(f"patch_layers is {self.patch_layers}, too many for size {self.size}; give fewer.")
        if self.size // 4**self.metric_stages < 1:
            raise InputError(f"metric_stages is {self.metric_stages}, too many for size {self.size}; give fewer.")

    def generator(self) -> Generator:
        """Build a generator with random weights."""
        return Generator(self.filters, self.blocks, masked=self.masked, repeat=self.repeat)

    def transform(self) -> TestTransform:
        """Return the preprocessing of images for translation."""
        return TestTransform(self.size, self.size, mean=HALF, std=HALF)


def train_translation(
    config: TranslateConfig,
    synthetic: Records,
    real: Records,
    *,
    out: Path | str,
    device: str = "cpu",
    workers: int | None = None,
    resume: bool = False,
    checkpoint_steps: int | None = None,
    log_steps: int = 10,
    progress: Progress | None = None,
) -> Path:
    """Train image translation between two sets of images without labels; return the path of the model.

    `out` becomes a run folder (see `vreid.training.run_folder`) with a grid of samples per epoch:
    RUN/samples/epoch_003.jpg (columns: synthetic, translated, reconstructed; real, translated, reconstructed).

    Several processes (see `vreid.training.distributed`) share each batch; the result is that of one process but for
    rounding and the draws of dropout (in the Siamese network), which are made for each share.

    Args:
        config: the settings.
        synthetic, real: images of either domain.
        out: the run folder.
        device: "cpu", "cuda", "cuda:1", ...
        workers: processes that load images (None: chosen for the device); the weights do not depend on it.
        resume: continue the run in `out`, or start it if there is none; a complete run is left as it is.
        checkpoint_steps: interval of checkpoints in steps, in addition to one after each epoch.
        log_steps: interval of lines of metrics.jsonl, in steps.
        progress: listener for cost estimate, steps and time.

    Raises:
        InputError: there are no images, the domains are swapped, `out` is in use or holds another run, the loss is not
            finite, or a batch cannot be shared evenly among the processes.

    Example:
        >>> config = TRANSLATIONS["spgan_small"]()                                        # doctest: +SKIP
        >>> train_translation(config, vehiclex.train, city.train, out="runs/spgan")      # doctest: +SKIP
        PosixPath('runs/spgan/model.safetensors')
    """
    world = ProcessGroup.current()
    progress = progress if progress and world.first else Progress()
    if config.batch_size % world.size:
        raise InputError(
            f"batch_size is {config.batch_size} images of each domain, but {world.size} processes share each batch "
            "evenly; start as many processes as divide it."
        )
    if _all(synthetic, "real") and _all(real, "synthetic"):
        raise InputError("The first images are all real and the second all synthetic; give the synthetic ones first.")
    sampler = PairedSampler(len(synthetic), len(real), config.batch_size, config.seed)
    side = {"height": config.load, "width": config.load, "mean": HALF, "std": HALF}
    transform = TrainTransform(**side, pad=0, erase=0.0)  # type: ignore[arg-type]
    loader = train_loader(
        Records.concat([synthetic, real]), transform, sampler, seed=config.seed, workers=workers, device=device
    )
    sides = {"synthetic": synthetic, "real": real}
    data = {name: {"fingerprint": fingerprint(side), "images": len(side)} for name, side in sides.items()}
    run = RunFolder(out, config=plain_values(config), data=data, resume=resume, writes=world.first)
    try:
        if run.model.exists():
            progress.note(f"{run.path} is complete; nothing is left to train.")
            return run.model
        place = torch.device(device)
        seed_everything(config.seed)
        world.wait()  # all processes check the folder before the first one writes
        started = world.agree(lambda: _begin(run, config, place, world, progress))
        samples = tuple(_chosen(side, config, name) for name, side in sides.items())
        loop = Translation(config, len(synthetic), samples, run, place, started["precision"], progress)
        loop.restore()
        loop.run_epochs(loader, checkpoint_steps=checkpoint_steps, log_steps=log_steps)
        facts = {
            "kind": "translation",
            "config": plain_values(config),
            "data": data,
            "vreid": started["vreid"],
            "revision": started["revision"],
        }
        if world.first:
            save_weights(run.model, loop.learned["to_real"].state_dict(), facts)
    except InputError:
        if world.first:
            run.abandon()
        raise
    finally:
        run.close()
        progress.finish()
    world.wait()
    return run.model


def _begin(
    run: RunFolder, config: TranslateConfig, device: torch.device, world: ProcessGroup, progress: Progress
) -> dict[str, Any]:
    """Write the files of a new run; return the environment in which the run was started."""
    run.begin()
    with torch.device("meta"):  # for its layer types only; draws no random numbers
        network = config.generator()
    precision = choose_precision(config.precision, device, network, training=True)
    return run.environment(environment(device, precision, world.size), progress)


def _all(records: Records, domain: str) -> bool:
    return len(records) > 0 and bool((records.domain.values == domain).all())


def _chosen(records: Records, config: TranslateConfig, name: str) -> Tensor:
    """Choose up to SHOWN images (N, 3, S, S) of a domain for the sample grids."""
    images = ImageDataset(records, config.transform())
    rows = generator(config.seed, "samples", name).permutation(len(records))[:SHOWN]
    return config.transform().finish(torch.stack([images.prepared(int(row)) for row in rows]))


class Translation(Loop):
    """Training loop of generators, discriminators and Siamese network, which form `learned` with the image pools.

    Every process of several has the whole batch and the whole pools, and computes the losses of its share; gradients
    are averaged. A batch that cannot be shared evenly, such as the last of an epoch, is computed by each.

    Args:
        config: the settings.
        first: number of synthetic images in the loader; the real ones follow them.
        samples: images of either domain, (N, 3, S, S), for the grid after each epoch.
        run, device, progress: see `Loop`.
        precision: "float32" or "bfloat16".
    """

    remedy = "lower learning_rate, or set precision=float32"
    smaller_batch = "lower batch_size, or size and load"

    def __init__(
        self,
        config: TranslateConfig,
        first: int,
        samples: tuple[Tensor, ...],
        run: RunFolder,
        device: torch.device,
        precision: str,
        progress: Progress,
    ) -> None:
        generators = {name: config.generator() for name in ("to_real", "to_synthetic")}
        judges = {name: Discriminator(config.filters, config.patch_layers) for name in ("judge_a", "judge_b")}
        siamese = SiameseNet(config.size, config.filters, config.metric_stages)
        pools = {name: ImagePool(config.pool, config.size) for name in ("pool_a", "pool_b")}
        learned = nn.ModuleDict({**generators, **judges, "siamese": siamese, **pools}).to(device)
        # One optimiser is enough: it skips weights without gradient, and each loss computes only those of its networks.
        adam = OptimiserConfig("adam", config.learning_rate, 0.5, 0.0, 0.0, bias_factor=1.0, classifier_factor=1.0)
        optimiser = build_optimiser(learned, adam)
        super().__init__(f"train {config.recipe}", config.epochs, learned, optimiser, run, device, progress)
        self.config, self.first, self.samples, self.precision = config, first, samples, precision
        self._shared = True  # whether the batch is shared by the processes

    def rate(self, time: float) -> float:
        """Return the constant learning rate."""
        return self.config.learning_rate

    def images_of(self, batch: Batch) -> int:
        """Return the number of images of the whole batch, which every process has."""
        return len(batch.images)

    def train_step(self, batch: Batch, time: float, *, last: bool) -> dict[str, Tensor]:
        """Train on a batch of A synthetic images followed by B real ones."""
        images = self._cropped(batch.images)
        split = int((batch.rows < self.first).sum())
        a, b = images[:split], images[split:]
        self._shared = all(len(side) % self.world.size == 0 for side in (a, b))
        self.world.seed_step(self.config.seed, self.state.total_steps)
        terms = self.step(self._part(a), self._part(b), int(time))
        self.world.average(list(terms.values()))
        if self.device.type == "cpu":  # on a GPU only when metrics are written: reading the loss synchronises
            self.raise_if_diverged({name: float(value) for name, value in terms.items()}, time)
        return terms

    def _part(self, whole: Tensor) -> Tensor:
        """Return this process's part of a batch (B, ...): (B / size, ...), or all if the batch is not shared."""
        return whole.chunk(self.world.size)[self.world.rank] if self._shared else whole

    def step(self, a: Tensor, b: Tensor, epoch: int) -> dict[str, Tensor]:
        """Train on `a` (A, 3, S, S) and `b` (B, 3, S, S) in this epoch (from 0).

        Returns:
            The weighted terms: those of the generators, in steps that update them, with their sum as "loss"; that of
            the discriminators ("judges"); that of the Siamese network.
        """
        config = self.config
        terms: dict[str, Tensor] = {}
        if (self.state.total_steps + 1) % config.generator_every == 0:
            with autocast(self.precision, self.device):
                a_as_b, b_as_a, terms = self._translated(a, b, epoch)
            terms["loss"] = torch.stack(list(terms.values())).sum()
            self._move(terms["loss"], "to_real", "to_synthetic")
        else:
            with torch.no_grad(), autocast(self.precision, self.device):
                a_as_b, b_as_a = self.learned["to_real"](a), self.learned["to_synthetic"](b)
        with autocast(self.precision, self.device):
            terms["judges"] = self._discriminator_loss("b", b, a_as_b) + self._discriminator_loss("a", a, b_as_a)
            if epoch >= config.siamese_from:
                terms["siamese"] = siamese_loss(self._embedded(a, b, a_as_b.detach(), b_as_a.detach()), config.margin)
        self._move(terms["judges"], "judge_a", "judge_b")
        if "siamese" in terms:
            self._move(terms["siamese"], "siamese")
        return {name: value.detach() for name, value in terms.items()}

    def _translated(self, a: Tensor, b: Tensor, epoch: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return both translations and the loss terms of the generators."""
        config = self.config
        to_real, to_synthetic = self.learned["to_real"], self.learned["to_synthetic"]
        # These networks treat images independently, so that two batches can run as one.
        a_as_b, b_as_b = to_real(torch.cat([a, b])).split([len(a), len(b)])
        b_as_a, a_as_a = to_synthetic(torch.cat([b, a])).split([len(b), len(a)])
        back_a, back_b = to_synthetic(a_as_b), to_real(b_as_a)
        fooled = [self.learned[judge](made) for judge, made in (("judge_b", a_as_b), ("judge_a", b_as_a))]
        terms = {
            "adversarial": adversarial_loss(fooled[0], real=True) + adversarial_loss(fooled[1], real=True),
            "cycle": config.cycle * (reconstruction_loss(back_a, a) + reconstruction_loss(back_b, b)),
            "identity": config.identity * (reconstruction_loss(a_as_a, a) + reconstruction_loss(b_as_b, b)),
        }
        if config.keeping and epoch >= config.keeping_from:
            embedded = self._embedded(a, b, a_as_b, b_as_a)
            terms["keeping"] = config.keeping * self_similarity_loss(embedded, config.margin)
        return a_as_b, b_as_a, terms

    def _move(self, loss: Tensor, *networks: str) -> None:
        """Update the weights of these networks, and no others, by the gradient of the loss."""
        weights = [weight for name in networks for weight in self.learned[name].parameters()]
        loss.backward(inputs=weights)  # type: ignore[no-untyped-call]
        self.world.average([weight.grad for weight in weights if weight.grad is not None])
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def _embedded(self, *batches: Tensor) -> Embeddings:
        """Compute the Siamese network's embeddings of a, b and their translations."""
        return Embeddings(*self.learned["siamese"](torch.cat(batches)).split([len(batch) for batch in batches]))

    def _discriminator_loss(self, domain: str, true: Tensor, made: Tensor) -> Tensor:
        """Compute the loss of a domain's discriminator on real images and on generated ones, some from the pool."""
        whole = self.world.gather(made.detach()) if self._shared else made
        draws = generator(self.config.seed, "pool", domain, self.state.total_steps).random(len(whole)).tolist()
        handed = self._part(cast(ImagePool, self.learned[f"pool_{domain}"]).exchange(whole, draws))
        on_true, on_made = self.learned[f"judge_{domain}"](torch.cat([true, handed])).split([len(true), len(made)])
        return (adversarial_loss(on_true, real=True) + adversarial_loss(on_made, real=False)) / 2

    def _cropped(self, images: Tensor) -> Tensor:
        """Crop each image at random: (N, 3, load, load) -> (N, 3, S, S)."""
        size, rng = self.config.size, generator(self.config.seed, "crop", self.state.total_steps)
        corners = rng.integers(self.config.load - size + 1, size=(len(images), 2)).tolist()
        pairs = zip(images, corners, strict=True)
        return torch.stack([image[:, top : top + size, left : left + size] for image, (top, left) in pairs])

    def epoch_ends(self, epoch: int) -> str:
        """Write the grid of samples of this epoch."""
        if not self.world.first:
            return ""
        sides = []
        for images, there, back in zip(
            self.samples, ("to_real", "to_synthetic"), ("to_synthetic", "to_real"), strict=True
        ):
            with torch.no_grad(), autocast(self.precision, self.device):
                made = self.learned[there](images.to(self.device))
                sides += [images, made.cpu(), self.learned[back](made).cpu()]
        rows = max(map(len, sides))
        columns = [torch.cat([side, torch.ones(rows - len(side), *side.shape[1:])]) for side in sides]
        grid = torch.cat([torch.cat(list(column), dim=1) for column in columns], dim=2)
        path = self.run.path / "samples" / f"epoch_{epoch + 1:03d}.jpg"
        with atomic_write(path) as temporary:
            to_pil(grid).save(temporary, "JPEG", quality=90)
        return ""


def to_pil(image: Tensor) -> Image.Image:
    """Convert an image tensor (3, H, W) in [-1, 1] to a PIL image."""
    values = ((image.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
