"""A result as a table for the console."""

import rich
import rich.box
import rich.markup
import rich.table
import rich.text

from facejax.runs import results


def show(result: results.Result) -> None:
  """Prints the figures of a result, its notes and its warnings."""
  rich.print(table(result))
  for text in result.notes:
    rich.print(rich.markup.escape(text))
  for text in result.warnings:
    rich.print(f"[yellow]warning:[/yellow] {rich.markup.escape(text)}")


def table(result: results.Result) -> rich.table.Table:
  """The figures of a result; their conventions are the caption."""
  out = rich.table.Table(
    title=rich.text.Text(f"{result.name}: {result.about}"),
    caption=rich.text.Text(
      "\n".join(
        f"{quantity.label}: {quantity.convention}"
        for quantity in result.quantities
        if quantity.convention
      )
    ),
    caption_justify="left",
    box=rich.box.SIMPLE_HEAD,
    show_edge=False,
    min_width=78,  # for the conventions below
  )
  out.add_column("figure", overflow="fold")
  for header in ("value", "95 % interval"):
    out.add_column(header, justify="right", no_wrap=True)
  for quantity in result.quantities:
    label = rich.text.Text(quantity.label)
    out.add_row(label, quantity.text(), quantity.interval())
  return out
