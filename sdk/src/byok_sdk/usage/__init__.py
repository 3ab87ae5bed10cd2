"""What a provider says that a request used, as units and conditions of ``usage.token_usage.v2``.

``apis`` is the table: one entry for each of the seven APIs, data alone. ``extraction`` reads a whole answer by it,
``streams`` the events of one that comes in pieces, ``answers`` looks into dicts and the objects of providers' packages
alike.
"""
