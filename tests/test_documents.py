"""Pages that need an extra are run by `make integrations`, and by `make check` the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import passed_pages, run_documents

HERE = Path(__file__).parents[1]
PAGES = [HERE / "README.md", *sorted((HERE / "docs").rglob("*.md"))]
PRINTS = "```python\nprint(1 + 1)\n```\n```text\n2\n```\n"
NEEDS = "<!-- extra: keras-tf -->\n"


def test_every_extra_that_a_page_declares_is_run() -> None:
    declared = {run_documents.extra_of(page.read_text(encoding="utf-8")) for page in PAGES} - {None}
    makefile = (HERE / "Makefile").read_text(encoding="utf-8")
    assert declared
    for extra in declared:
        assert f"tools/run_documents.py --extra {extra} $(PAGES)" in makefile


@pytest.fixture
def pages(tmp_path: Path) -> list[str]:
    (tmp_path / "plain.md").write_text(PRINTS, encoding="utf-8")
    (tmp_path / "keras.md").write_text(NEEDS + PRINTS, encoding="utf-8")
    return [str(tmp_path / "plain.md"), str(tmp_path / "keras.md")]


def test_pages_run_in_their_own_environment_only(pages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    plain, keras = pages
    assert not run_documents.main(pages)
    assert capsys.readouterr().out == f"{plain}: 2 blocks\n{keras}: not run, it needs --extra keras-tf\n"
    assert not run_documents.main(["--extra", "keras-tf", *pages])
    assert capsys.readouterr().out == f"{keras}: 2 blocks\n"


def test_an_extra_without_pages_and_a_wrong_print_fail(pages: list[str]) -> None:
    plain, keras = pages
    assert run_documents.main(["--extra", "keras-tf", plain])
    Path(keras).write_text(NEEDS + PRINTS.replace("\n2\n", "\n3\n"), encoding="utf-8")
    assert not run_documents.main(pages)
    assert run_documents.main(["--extra", "keras-tf", *pages])


def test_links_of_all_pages_are_checked(pages: list[str]) -> None:
    Path(pages[1]).write_text(NEEDS + "[nowhere](missing.md)\n" + PRINTS, encoding="utf-8")
    assert run_documents.main(pages)


def test_a_page_that_passed_runs_again_only_where_something_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, passed, shown = tmp_path / "page.md", tmp_path / "build" / "pages.json", PRINTS.replace("1 + 1", "2")
    ran, unchanged = f"{page}: 2 blocks\n", f"{page}: unchanged since it passed\n"
    for text, line in [(PRINTS, ran), (PRINTS, unchanged), (shown, ran), (PRINTS, unchanged)]:
        page.write_text(text, encoding="utf-8")
        assert not run_documents.main(["--passed", str(passed), str(page)])
        assert capsys.readouterr().out == line
    page.write_text(PRINTS + "[nowhere](missing.md)\n", encoding="utf-8")
    assert run_documents.main(["--passed", str(passed), str(page)])
    assert not capsys.readouterr().out


def test_a_block_without_a_language_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(PRINTS.replace("```text", "```"), encoding="utf-8")
    assert run_documents.main([str(page)])
    assert "line 4: a block without a language is not compared" in capsys.readouterr().err


def test_changed_code_and_versions_forget_what_passed(tmp_path: Path) -> None:
    files = [tmp_path / "src" / "affinet" / "a.py", tmp_path / "examples" / "data.txt"]
    files += [tmp_path / name for name in passed_pages.RUNNERS]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1", encoding="utf-8")
    stored = tmp_path / "pages.json"
    for file in files:
        passed_pages.read_passed(stored, tmp_path).add(PRINTS)
        assert passed_pages.read_passed(stored, tmp_path).has(PRINTS)
        file.write_text("2", encoding="utf-8")
        assert not passed_pages.read_passed(stored, tmp_path).has(PRINTS)
    stored.write_text("[", encoding="utf-8")
    assert not passed_pages.read_passed(stored, tmp_path).has(PRINTS)


def test_a_failed_page_is_not_remembered(tmp_path: Path) -> None:
    page, passed = tmp_path / "page.md", tmp_path / "pages.json"
    page.write_text(PRINTS.replace("\n2\n", "\n3\n"), encoding="utf-8")
    assert run_documents.main(["--passed", str(passed), str(page)])
    assert run_documents.main(["--passed", str(passed), str(page)])
