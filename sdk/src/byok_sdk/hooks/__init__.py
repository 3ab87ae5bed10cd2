"""Where others make the calls: each module records what one package tells of them, and needs that package installed.

``byok_sdk`` imports none of them. They share ``observed`` (which event a call is) and ``observer`` (once, and quietly).
"""
