"""From a schema document of somebody we don't trust to an answer about a document, within bounds.

``gate`` says what an uploaded JSON Schema must be, with ``outline`` (its schema locations and references) and
``patterns`` (its regular expressions) behind it. ``rust`` and ``python`` are engines that compile it (``engine`` says
what one is, ``engines`` finds it by its name), ``formats`` are the formats that are asserted, ``violations`` says in
words what is wrong with a document.

All of that runs in processes that can be ended: ``pool`` keeps them, ``worker`` is one, ``frames`` is what they say to
each other, ``breaker`` holds back who stops them again and again. ``validators`` decides what the server may do itself:
what ``bound`` has proved to be cheap, with the validators that ``cache`` keeps.
"""
