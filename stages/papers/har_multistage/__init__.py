"""Multi-stage training over diverse transformed representations (Mahmud, Sayyed, Fattah and Kung, IEEE Sensors J. 2021).

A window of wearable sensors is transformed in several ways; one small CNN is trained per transformed space, then their
features are merged and tuned, in one combined stage or branch by branch. No code of the authors is public, and layer sizes
are inferred; what is asserted to the digit is the specification's own count.

- transforms: raw, spectrum, STFT, Gramian fields, recurrence plot, Markov transition field
- extractor, merged: the CNN in one and two dimensions, the merged net; cost: its size in closed form
- learning: Adam with reduce-on-plateau, early stop and the best validation epoch; individual, multistage: the stages
- results: what the pictures show, verified
- folds come from stages.lib.sensors: grouped by subject, and the paper's protocol over windows beside it
"""
