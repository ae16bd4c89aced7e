"""Privacy Enhancing Machine Learning via Removal of Unwanted Dependencies (Al, Yagli and Kung, arXiv 2007.15710).

A device sends z = f(x) of few dimensions, chosen so that a service can tell the utility label u from it and nobody the
secret s. Supervised objectives trade discriminant information about u against that about s; adversarial ones play
against a learning adversary. Both are judged by attackers that are trained afresh on what is sent.
"""
