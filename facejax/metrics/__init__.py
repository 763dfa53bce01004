"""Figures of merit over plain NumPy arrays; nothing here touches a device.

The modules, from two vectors to whole protocols:

    distances         numbers that compare two vectors
    verification      accuracy over folds, and the figures of one set of pairs
    validation        FaceNet's VAL and FAR at a distance
    counts, curves    accepted pairs at every threshold, which shards add up
    gallery           search of a gallery, probe by probe
    identification    ranks, CMC, and TPIR at FPIR
    retrieval         precision at 1, R-precision, MAP@R
    distractors       MegaFace: mates among a million strangers
    templates, video  IJB's templates and YouTube Faces' videos, pooled
    clustering        pairwise F, BCubed, NMI, ARI, purity
    diagnostics       angles within and between people
    quality           qualities of images, error against reject, its area
    calibration       likelihood ratios of scores, Cllr, reliability
    intervals         how far chance may move any of these
"""
