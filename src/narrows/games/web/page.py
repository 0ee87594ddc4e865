"""The page with the board: one HTML text with its style and its script inside."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from narrows.envs.connect_four import ConnectFour
from narrows.games.session import SIDES, Table


def policy_of(nonce: str) -> str:
    """Return the content security policy under which the page works: its own style and script, and questions to its server."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page(table: Table, side: int, nonce: str) -> str:
    """Return the page as HTML text.

    Args:
        table: the game, the opponent, and whom to ask.
        side: 0 if the person plays first unless they choose otherwise, 1 if second.
        nonce: what lets the style and the script of this copy of the page work, and no other.
    """
    environment = Environment(
        loader=PackageLoader("narrows.games.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    num_rows, num_columns = table.env.board
    drops = isinstance(table.env, ConnectFour)
    return environment.get_template("page.html.j2").render(
        title="Connect-4" if drops else "Tic-tac-toe",
        goal="four" if drops else "three",
        drops=drops,
        num_rows=num_rows,
        num_columns=num_columns,
        names=table.env.action_names,
        opponent=table.opponent.name,
        side=SIDES[side],
        has_adviser=table.adviser is not None,
        has_judge=table.judge is not None,
        nonce=nonce,
    )
