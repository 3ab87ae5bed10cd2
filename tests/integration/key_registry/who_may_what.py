"""Who may do what with the key registry, as its users were promised it: one column a caller, one row an operation.

Written from the contract and not from the code, so that a mistake in the code's own table shows. All is about the
organization acme, its team growth and its user uma; each cell is the HTTP status of the answer.

- Personal keys are private to their owner; an admin of the organization may see that one exists and revoke it.
- Team keys: members see them, admins of the team and of the organization manage them.
- Organization keys: members see them, admins manage them.
- How a key fares is reported, and what changed is followed, by services that lease keys.
- Names of models are everybody's: services that set plans add them, with a token for every organization.
- The audit log of an organization is for its admins, and for services that manage its keys.
- Services by scope. A role is one in an organization: a token for every organization has its scopes alone.
- Sessions are everybody's own: each ends its own, and hears of no others.
- What one may not know of is 404, never 403; an organization that one names oneself is 403.
"""

from __future__ import annotations

from typing import NamedTuple

CALLERS = {
    "admin": "an admin of acme",
    "owner": "uma, a member of acme without a team",
    "bob": "another member without a team",
    "lead": "an admin of the team growth, member of acme",
    "mate": "a member of the team growth, member of acme",
    "other": "an admin of another team of acme",
    "guest": "called uma and named an admin of growth, but without a role in acme",
    "writer": "a service of acme with credentials:write",
    "lease": "a service of acme with credentials:lease",
    "usage": "a service of acme with usage:write",
    "reader": "a service of acme with ledger:read",
    "plans": "a service of acme with plans:write",
    "back": "a service of acme with registry:backdate",
    "none": "a service of acme without a scope",
    "alien": "an admin of another organization, called uma and an admin of a team growth there",
    "remote": "a service of another organization with every scope",
    "support": "an admin of every organization without a scope, called uma and named an admin of growth",
    "all": "a service of every organization with every scope",
    "nobody": "nobody: no token",
}

# "hint" and "bare" are a 200 with and without hint and label; "yes" and "no" a 200 whose list has the key or lacks it.
TABLE = """
                       admin owner bob  lead mate other guest | writer lease usage reader plans back none | alien remote support all  nobody
add organization       201   403   403  403  403  403   403   | 201    403   403   403    403   403  403  | 403   403    403     201  401
add team               201   403   403  201  403  403   403   | 201    403   403   403    403   403  403  | 403   403    403     201  401
add personal           403   201   403  403  403  403   403   | 201    403   403   403    403   403  403  | 403   403    403     201  401
add-backdated team     403   403   403  403  403  403   403   | 403    403   403   403    403   403  403  | 403   403    403     201  401
get organization       hint  hint  hint hint hint hint  404   | hint   404   404   404    404   404  404  | 404   404    404     hint 401
get team               hint  404   404  hint hint 404   404   | hint   404   404   404    404   404  404  | 404   404    404     hint 401
get personal           bare  hint  404  404  404  404   404   | hint   404   404   404    404   404  404  | 404   404    404     hint 401
list organization      hint  hint  hint hint hint hint  no    | hint   no    no    no     no    no   no   | 403   403    no      hint 401
list team              hint  no    no   hint hint no    no    | hint   no    no    no     no    no   no   | 403   403    no      hint 401
list personal          bare  hint  no   no   no   no    no    | hint   no    no    no     no    no   no   | 403   403    no      hint 401
own-list organization  hint  hint  hint hint hint hint  no    | hint   no    no    no     no    no   no   | no    no     422     422  401
own-list personal      bare  hint  no   no   no   no    no    | hint   no    no    no     no    no   no   | no    no     422     422  401
relabel organization   200   403   403  403  403  403   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
relabel team           200   404   404  200  403  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
relabel personal       403   200   404  404  404  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
disable organization   200   403   403  403  403  403   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
disable team           200   404   404  200  403  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
disable personal       403   200   404  404  404  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
enable organization    200   403   403  403  403  403   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
enable team            200   404   404  200  403  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
enable personal        403   200   404  404  404  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
rotate organization    200   403   403  403  403  403   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
rotate team            200   404   404  200  403  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
rotate personal        403   200   404  404  404  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
undo organization      200   403   403  403  403  403   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
undo team              200   404   404  200  403  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
undo personal          403   200   404  404  404  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
verify organization    200   403   403  403  403  403   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
verify team            200   404   404  200  403  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
verify personal        403   200   404  404  404  404   404   | 200    404   404   404    404   404  404  | 404   404    404     200  401
revoke organization    204   403   403  403  403  403   404   | 204    404   404   404    404   404  404  | 404   404    404     204  401
revoke team            204   404   404  204  403  404   404   | 204    404   404   404    404   404  404  | 404   404    404     204  401
revoke personal        204   204   404  404  404  404   404   | 204    404   404   404    404   404  404  | 404   404    404     204  401
lease organization     403   403   403  403  403  403   403   | 403    200   403   403    403   403  403  | 403   403    403     200  401
lease team             403   403   403  403  403  403   403   | 403    200   403   403    403   403  403  | 403   403    403     200  401
lease personal         403   403   403  403  403  403   403   | 403    200   403   403    403   403  403  | 403   403    403     200  401
resolve team           200   403   403  403  403  403   403   | 200    200   200   200    403   403  403  | 403   403    403     200  401
resolve personal       200   200   403  403  403  403   403   | 200    200   200   200    403   403  403  | 403   403    403     200  401
resolve-own team       200   403   403  200  200  403   403   | 200    200   200   200    403   403  403  | 403   403    403     200  401
report organization    403   403   403  403  403  403   403   | 403    200   403   403    403   403  403  | 403   404    403     200  401
report team            403   403   403  403  403  403   403   | 403    200   403   403    403   403  403  | 403   404    403     200  401
report personal        403   403   403  403  403  403   403   | 403    200   403   403    403   403  403  | 403   404    403     200  401
changes organization   403   403   403  403  403  403   403   | 403    200   403   403    403   403  403  | 403   200    403     200  401
get-plan organization  200   200   200  200  200  200   200   | 200    200   200   200    200   200  200  | 403   403    200     200  401
set-plan organization  403   403   403  403  403  403   403   | 403    403   403   403    200   403  403  | 403   403    403     200  401
backdate-plan organization 403 403 403  403  403  403   403   | 403    403   403   403    403   403  403  | 403   403    403     200  401
providers organization 200   200   200  200  200  200   200   | 200    200   200   200    200   200  200  | 200   200    200     200  401
models organization    200   200   200  200  200  200   200   | 200    200   200   200    200   200  200  | 200   200    200     200  401
add-names organization 403   403   403  403  403  403   403   | 403    403   403   403    403   403  403  | 403   403    403     201  401
audit organization     200   403   403  403  403  403   403   | 200    403   403   403    403   403  403  | 403   403    403     200  401
own-audit organization 200   403   403  403  403  403   403   | 200    403   403   403    403   403  403  | 200   200    403     200  401
sessions organization  200   200   200  200  200  200   200   | 200    200   200   200    200   200  200  | 200   200    200     200  401
end-sessions organization 200 200  200  200  200  200   200   | 200    200   200   200    200   200  200  | 200   200    200     200  401
get-unknown personal   404   404   404  404  404  404   404   | 404    404   404   404    404   404  404  | 404   404    404     404  401
"""  # noqa: E501 (a table is easier to read than lines of 120 characters)


class Cell(NamedTuple):
    """What one caller is answered when it tries one operation on a key of one scope."""

    operation: str
    scope: str
    caller: str
    expected: str


def cells() -> list[Cell]:
    """The whole table, cell by cell."""
    header, *rows = [line.replace("|", " ").split() for line in TABLE.strip().splitlines()]
    assert header == list(CALLERS)
    assert all(len(row) == len(header) + 2 for row in rows)
    return [Cell(row[0], row[1], caller, row[2 + place]) for row in rows for place, caller in enumerate(header)]
