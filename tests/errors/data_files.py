"""Data to learn from: `source` and `target` of a job."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from affinet.cli.files import parquet
from affinet.cli.jobs.job import DataTable
from affinet.cli.trainings import encoding
from affinet.cli.trainings.data import load_data
from affinet.errors import DataError
from tests.errors.case import case

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
ROWS = "\n".join(f"{k % 5},{k % 3 / 2},{'owl' if k % 2 else 'cat'}" for k in range(12))


def load(folder: Path, content: str, *, name: str = "small.csv", **options: object) -> None:
    (folder / name).write_text(content)
    load_data(DataTable.model_validate({"source": name, "target": "kind"} | options), folder, 0)


@case(DataError, "The path is wrong.", "Check it: it is relative to the job file.")
def data_that_do_not_exist(folder: Path) -> None:
    load_data(DataTable(source="small.csv", target="kind"), folder, 0)


@case(DataError, "A file of another kind.", "Save it as CSV or Parquet.")
def data_of_another_kind(folder: Path) -> None:
    load(folder, "", name="small.xlsx")


@case(DataError, "A line has more fields than the header.", "Correct the line.", fragment="has 3 fields in line 3")
def data_with_a_long_line(folder: Path) -> None:
    load(folder, "length,kind\n1,2\n3,4,5\n")


@case(DataError, "The file is damaged or of another kind.", "Save it again.", foreign="(?<=parquet file: ).*")
def damaged_data(folder: Path) -> None:
    load(folder, "not parquet", name="small.parquet")


@case(DataError, "Two columns with the same name.", "Rename one.")
def two_columns_of_one_name(folder: Path) -> None:
    load(folder, f"length,length,kind\n{ROWS}")


@case(DataError, "Names of columns in another encoding.", "Save the table as UTF-8.", fragment="the header of")
def data_with_a_header_in_another_encoding(folder: Path) -> None:
    (folder / "small.csv").write_bytes(f"größe,breite,kind\n{ROWS}".encode("latin-1"))
    load_data(DataTable(source="small.csv", target="kind"), folder, 0)


@case(DataError, "Decimal commas in one column, and points in another.", "Write all numbers alike.")
def data_with_decimal_commas_and_points(folder: Path) -> None:
    load(folder, "length;width;kind\n" + "1,5;1.234;owl\n2,5;2.000;cat\n" * 6)


@case(DataError, "A header and no rows.", "Add rows.")
def data_without_rows(folder: Path) -> None:
    load(folder, "length,width,kind\n")


@case(DataError, "A misspelt column.", "Take one of those listed.")
def data_without_the_target(folder: Path) -> None:
    load(folder, f"length,width,kinds\n{ROWS}")


@case(DataError, "The table has no column but the target.", "Add the features.")
def data_without_features(folder: Path) -> None:
    load(folder, "kind\nowl\ncat\n")


@case(DataError, "Features that are text.", 'Write text = "encode".', fragment="features that are not numbers")
def features_that_are_text(folder: Path) -> None:
    load(folder, "length,width,kind\nlong,1,owl\nshort,2,cat\n")


def load_text(folder: Path, words: list[str], column: str = "colour") -> None:
    rows = "\n".join(f"{words[k % len(words)]},{k % 3},{'owl' if k % 2 else 'cat'}" for k in range(12))
    load(folder, f"{column},colour=red,kind\n{rows}\n", text="encode")


@case(DataError, "Gaps in a column of text.", "Fill them in, such as with a word.", fragment="becomes a category")
def text_with_gaps(folder: Path) -> None:
    load_text(folder, ["red", ""])


@case(DataError, "Text that is dates.", "Write numbers.", fragment="has dates")
def text_that_is_dates(folder: Path) -> None:
    load_text(folder, ["2024-03-01", "2024-03-02"])


@case(DataError, "Amounts with signs or groups of thousands.", "Write plain numbers.", fragment="has amounts")
def text_that_is_amounts(folder: Path) -> None:
    load_text(folder, ["€ 1.000", "€ 2.500"])


@case(DataError, "Text of many words.", "Write shorter words, or leave the column out.", fragment="has free text")
def text_that_is_free(folder: Path) -> None:
    load_text(folder, ["one word after another " * 5, "few words"])


@case(DataError, "Names or identifiers.", "Leave the column out.", fragment="in each row of column")
def text_that_is_different_in_each_row(folder: Path) -> None:
    load_text(folder, [f"No. {k}" for k in range(12)])


@case(DataError, "More categories than rows can teach.", "Group them, or leave the column out.", fragment="at most 50")
def text_of_many_categories(folder: Path) -> None:
    load_text(folder, [f"No. {k}" for k in range(8)])


@case(DataError, "Spaces around a word in some rows.", "Remove them.", fragment="differ in spaces alone")
def text_that_differs_in_spaces(folder: Path) -> None:
    load_text(folder, ["red", " red"])


@case(DataError, "Many rows of many categories.", "Leave columns out.", fragment="more than the 10 numbers")
def text_beyond_memory(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:  # in place of a large table
        patch.setattr(encoding, "MOST_NUMBERS", 10)
        load_text(folder, ["red", "blue"], "paint")


@case(DataError, "A column is called as a category of another one.", "Rename one.", fragment="has two features")
def text_and_a_column_of_one_name(folder: Path) -> None:
    load_text(folder, ["red", "blue"])


@case(DataError, "Gaps in the table.", "Fill them in, or remove the rows.")
def data_with_gaps(folder: Path) -> None:
    load(folder, f"length,width,kind\n,1,owl\n{ROWS}")


@case(DataError, "A missing value that is written as a word.", "Fill it in, or remove the row.")
def a_missing_value_in_words(folder: Path) -> None:
    load(folder, f"length,width,kind\nnan,1,owl\n{ROWS}")


@case(DataError, "A word among numbers.", "Correct the cell, or remove the row.")
def a_word_among_numbers(folder: Path) -> None:
    load(folder, f"length,width,kind\nfoo,1,owl\n{ROWS}")


@case(DataError, "Numbers written like text.", "Remove spaces and signs.")
def numbers_with_spaces(folder: Path) -> None:
    load(folder, "length,width,kind\n 1,1,owl\n 2,1,cat\n")


@case(DataError, "A target of dates or lists.", "Write numbers, text or truth values.")
def a_target_of_dates(folder: Path) -> None:
    dates = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 1, 9), eager=True)
    pl.DataFrame({"length": range(9), "kind": dates}).write_parquet(folder / "small.parquet")
    load_data(DataTable(source="small.parquet", target="kind"), folder, 0)


@case(DataError, "A target of text cannot be regressed on.", 'Write task = "classification".')
def regression_on_text(folder: Path) -> None:
    load(folder, f"length,width,kind\n{ROWS}", task="regression")


@case(DataError, "One value in every row.", "Name another column.")
def a_target_that_never_changes(folder: Path) -> None:
    load(folder, f"length,width,kind\n{ROWS.replace('cat', 'owl')}")


@case(DataError, "Too few rows to train and to test on.", "Add rows, or change test_fraction.")
def too_few_rows(folder: Path) -> None:
    load(folder, "length,width,kind\n1,2,owl\n2,3,cat\n")


@case(DataError, "A class with one row.", "Add rows, or remove that one.")
def a_class_of_one_row(folder: Path) -> None:
    load(folder, f"length,width,kind\n1,1,fox\n{ROWS}", test_fraction=0.5)


@case(DataError, "The path is that of a folder.", "Name a file.")
def a_folder_as_data(folder: Path) -> None:
    (folder / "small.csv").mkdir()
    load_data(DataTable(source="small.csv", target="kind"), folder, 0)


@case(DataError, "Numbers whose squares overflow.", "Give them in other units.")
def data_beyond_squares(folder: Path) -> None:
    load(folder, f"length,width,kind\n1e300,1,owl\n{ROWS}")


@case(DataError, "A few bytes that announce very many numbers.", "Name a smaller table.", foreign="(?<=from )[0-9,]+")
def a_table_that_unfolds(folder: Path) -> None:
    zeros = pl.repeat(0, 17_000_000, dtype=pl.UInt8, eager=True)
    pl.DataFrame(dict.fromkeys(("length", "width", "height", "kind"), zeros)).write_parquet(folder / "small.parquet")
    load_data(DataTable(source="small.parquet", target="kind"), folder, 0)


@case(DataError, "A damaged file asks for more memory than any file needs.", "Save it again.")
def a_table_that_ends_its_reader(folder: Path) -> None:
    shutil.copy(CORPUS / "parquet" / "bitmap-of-2-exabytes.parquet", folder / "small.parquet")
    load_data(DataTable(source="small.parquet", target="kind"), folder, 0)


@case(DataError, "A damaged file, or a busy machine.", "Save it again, or as CSV.")
def a_table_that_takes_for_ever(folder: Path) -> None:
    pl.DataFrame({"length": [1.0], "kind": [1.0]}).write_parquet(folder / "small.parquet")
    with pytest.MonkeyPatch.context() as patch:  # in place of a reader that waits
        patch.setattr(parquet, "SECONDS", 0.0)
        load_data(DataTable(source="small.parquet", target="kind"), folder, 0)


@case(DataError, "Python cannot start a second process here.", "Save the table as CSV.", foreign="(?<=failed: ).*")
def a_table_whose_reader_does_not_start(folder: Path) -> None:
    pl.DataFrame({"length": [1.0], "kind": [1.0]}).write_parquet(folder / "small.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_PROGRAM", "import no_such_module")
        load_data(DataTable(source="small.parquet", target="kind"), folder, 0)
