"""From a schema document of somebody we don't trust to a validator that can be asked.

``gate`` says what an uploaded JSON Schema must be, with ``outline`` (its schema locations and references), ``patterns``
and ``automaton`` (what a regular expression may cost) behind it. ``rust`` compiles it, ``formats`` are the formats that
are asserted, ``violations`` says in words what is wrong with a document, and ``cache`` keeps compiled validators.
"""
