"""What `check_data` takes and gives."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from slimline.contract import Access, Component, Dataset, Output, Report, Resources, output
from slimline.data.spec import Labels, Source


class Expectations(BaseModel):
    """What the data must be; a failed one stops the run and says the cure."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_train: int = Field(10, ge=1, description="Training examples at least.")
    min_selection: int = Field(10, ge=1, description="Selection examples at least.")
    min_test: int = Field(10, ge=1, description="Test examples at least.")
    min_per_class: int = Field(1, ge=0, description="Examples of each class in each split.")
    max_class_ratio: float = Field(
        20, ge=1, description="Largest class over smallest class, in each split, at most."
    )
    labels: Labels = Field(
        None, description="Class names in their order; what the source says if not given."
    )
    shape: tuple[PositiveInt, ...] | None = Field(
        None, description="(height, width, channels) or (features,) of one example."
    )
    min_value: float | None = Field(None, description="Lowest raw value allowed; bytes are 0..255.")
    max_value: float | None = Field(None, description="Highest raw value allowed.")
    max_missing: float = Field(
        0, ge=0, lt=1, description="Share of examples with a missing label or value; left out."
    )
    max_blank: float = Field(
        0.01, ge=0, le=1, description="Share of images in which all pixels are equal."
    )


class CheckData(Component):
    """Read a source, check it against expectations, and split it into train, selection and test.

    Equal bytes give equal splits: the sha256 of an example's own bytes and the salt says where it
    goes, so duplicates fall on one side and order does not matter. An official test part stays the
    test split; training copies of its examples are dropped.
    """

    image: ClassVar = "data"
    needs: ClassVar = Resources(cpu=1, memory="8Gi", network=True)
    access: ClassVar = (Access("data", "read"),)

    train: Output[Dataset] = output("Examples to train and calibrate on.")
    selection: Output[Dataset] = output("Examples to choose between epochs and settings with.")
    test: Output[Dataset] = output("Examples for the final proof alone.")
    report: Output[Report] = output("What was expected and observed, with some images of a class.")

    source: Source = Field(
        description="Where the examples are; `kind` is sklearn, idx, parquet, folder, npz or csv."
    )
    name: str = Field(
        "dataset",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="The dataset's name, for reports and the model card.",
    )
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of the examples for test; not used where the source has a test part.",
    )
    selection_fraction: float = Field(
        0.1, gt=0, lt=1, description="Share of the examples that are not test for selection."
    )
    salt: str = Field(
        "", max_length=100, description="Another salt gives another, equally good split."
    )
    limit: int | None = Field(
        None, ge=1, description="Examples a split at most, for quick runs; chosen by hash."
    )
    expectations: Expectations = Field(
        default_factory=Expectations, description="What the data must be, else the run stops."
    )

    def outside(self) -> dict[str, str]:
        """The source's bytes as they are now."""
        from slimline.data.sources.fingerprint import fingerprint  # noqa: PLC0415 - may need boto3

        return {"source": fingerprint(self.source)}
