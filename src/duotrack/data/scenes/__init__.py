"""Moving RGB-T scenes with exact boxes, and the test set that is made of sixty of them.

A scene is a place (``worlds``), things on paths with inertia (``actors``, ``motion``), a camera, and weather. All of
them are arrays over time; ``scene`` draws a moment, ``composition`` makes a scene up, ``testset`` writes the set. None
of it is shared with training (:mod:`duotrack.data.synthetic`): a test set that is drawn as the training pairs are would
flatter the model.
"""
