"""Where examples come from, as a recipe says it: one model per kind, told apart by `kind`.

Recipes and forms import this, so it needs pydantic only; `slimline.data.sources` does the reading.
Each path is a local one or an `s3://bucket/key` URI.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    model_validator,
)

S = TypeVar("S", bound=BaseModel)


def _unique(labels: tuple[str, ...]) -> tuple[str, ...]:
    if not labels or len(set(labels)) != len(labels):
        msg = "labels must be at least one name, each once"
        raise ValueError(msg)
    return labels


def _pair(source: S, first: str, second: str) -> S:
    if (getattr(source, first) is None) != (getattr(source, second) is None):
        msg = f"{first} and {second} belong together: give both, or null for both"
        raise ValueError(msg)
    return source


Labels = Annotated[tuple[str, ...], AfterValidator(_unique)] | None
# Class names; the place of a name is its class index.
_MIB = 2**20


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="sha256 the source must have; other bytes are refused. Pins the data.",
    )
    max_examples: int = Field(
        2_000_000, ge=1, description="A source that says it holds more examples is refused."
    )
    max_mib: int = Field(
        8192, ge=1, description="Room for each file, and for all examples decoded, in MiB."
    )

    @property
    def max_bytes(self) -> int:
        """`max_mib` in bytes."""
        return self.max_mib * _MIB


class _Images(_Source):
    color: Literal["rgb", "grey"] = Field("rgb", description="What images are converted to.")
    size: tuple[PositiveInt, PositiveInt] | None = Field(
        None,
        description="Height and width that every image is resized to (bilinear); "
        "without it, images of unequal size are refused.",
    )
    max_side: int = Field(4096, ge=1, description="An image that is longer or wider is refused.")


class SklearnSource(_Source):
    """A dataset that comes with scikit-learn: needs no download.

    `digits` is stored with values 0..16; they are multiplied by 255/16 and rounded, so that 16
    becomes 255 and no two values fall together.
    """

    kind: Literal["sklearn"]
    name: Literal["digits", "iris", "wine", "breast_cancer"] = Field(
        "digits", description="digits are 8x8 grey images, the others are rows of features."
    )


class IdxSource(_Source):
    """The idx files of MNIST and its relatives, plain, .gz or .xz; the test part stays the test."""

    kind: Literal["idx"]
    path: str = Field(description="Directory or s3:// prefix of the files.")
    train_images: str = Field("train-images-idx3-ubyte", description="Name, less .gz or .xz.")
    train_labels: str = Field("train-labels-idx1-ubyte", description="Name, less .gz or .xz.")
    test_images: str | None = Field(
        "t10k-images-idx3-ubyte", description="null: split the training files by hash."
    )
    test_labels: str | None = Field("t10k-labels-idx1-ubyte", description="null: as above.")
    labels: Labels = Field(None, description="Names of classes 0, 1, ...; numbers if not given.")

    @model_validator(mode="after")
    def _test_is_a_pair(self) -> Self:
        return _pair(self, "test_images", "test_labels")


class ParquetSource(_Images):
    """Parquet with encoded images, in the schema of Hugging Face's `Image` feature."""

    kind: Literal["parquet"]
    path: str = Field(description="Directory or s3:// prefix of the files.")
    train: tuple[str, ...] = Field(min_length=1, description="Names of the training files.")
    test: tuple[str, ...] = Field((), description="Official test files; none: split by hash.")
    image_column: str = Field("image", description="Struct with a field `bytes`, or binary.")
    label_column: str = Field("label", description="Integers (class index) or text (class name).")
    keep_column: str | None = Field(
        None, description="Boolean column; rows where it is not true are left out."
    )
    labels: Labels = Field(
        None, description="Class names in order; else the file's own, else what is found."
    )


class FolderSource(_Images):
    """A folder of images per class; the folder's name is the class name."""

    kind: Literal["folder"]
    path: str = Field(description="Directory or s3:// prefix that holds one folder per class.")
    test_path: str | None = Field(
        None, description="The same for the official test part; null: split by hash."
    )
    labels: Labels = Field(None, description="Class names in order; sorted if not given.")


class NpzSource(_Source):
    """Arrays in one .npz: uint8 images (N, H, W[, C]) or float rows (N, F); never objects."""

    kind: Literal["npz"]
    path: str = Field(description="The .npz file.")
    x: str = Field("x", description="Name of the array of examples.")
    y: str = Field("y", description="Array of labels: integers (class index) or text; or targets.")
    task: Literal["classification", "regression", "segmentation", "detection"] = Field(
        "classification",
        description="What y is: a class; numbers (N,) or (N, outputs); a class for each pixel "
        "(N, H, W), -1 where none counts; or boxes (N, boxes, 5), padded with class -1.",
    )
    columns: tuple[str, ...] = Field(
        (),
        description="Further arrays (N,), kept to slice an evaluation by; those of the official "
        "test part are named test_ and the same.",
    )
    test_x: str | None = Field(None, description="Official test examples; null: split by hash.")
    test_y: str | None = Field(None, description="Official test labels.")
    labels: Labels = Field(None, description="Class names in order; numbers or sorted names else.")

    @model_validator(mode="after")
    def _test_is_a_pair(self) -> Self:
        return _pair(self, "test_x", "test_y")


class CsvSource(_Source):
    """Rows of numbers with a header and a label column; an empty cell is a missing value."""

    kind: Literal["csv"]
    path: str = Field(description="The file: UTF-8, with a header.")
    test_path: str | None = Field(None, description="Official test file; null: split by hash.")
    label_column: str = Field("label", description="Class name, taken as text.")
    feature_columns: tuple[str, ...] | None = Field(
        None, description="Columns to use, in this order; all others if not given."
    )
    delimiter: str = Field(",", min_length=1, max_length=1, description="Between two cells.")
    labels: Labels = Field(None, description="Class names in order; sorted if not given.")


Source = Annotated[
    SklearnSource | IdxSource | ParquetSource | FolderSource | NpzSource | CsvSource,
    Field(discriminator="kind"),
]
