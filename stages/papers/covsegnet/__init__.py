"""CovSegNet: multi encoder-decoder lesion segmentation of chest CT (Mahmud, Rahman, Fattah, Kung, arXiv 2012.01473, 2020).

Encoder-decoder modules in series (horizontal expansion) of several levels (vertical), whose levels exchange all their maps:
`blocks` has the scale transitions and the fusion of all scales by pyramids, `network` the net in two or three dimensions,
`unet` its rival of equal parameters or multiply-adds. Training is in two phases: a net of slices first, then a net of
volumes that sees the scan and the first net's probability, for training scans that of a net which never saw them:
`division` draws patients and inner folds, `sampling` batches, `phases` trains, `losses` has the focal Tversky loss,
`inference` the sliding window, `filters` what a filter along z makes of the first phase, `overlap` the measures of a scan.
`scans` reads the prepared volumes; `train.py` and `evaluate.py` are the stage scripts, `classify.py` a table on COVID-CT,
`figures.py` draws.
"""
