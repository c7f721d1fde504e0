"""Tables of saliency methods over a set of images: what is measured is in fwdkern.metrics, the rivals in
fwdkern.baselines.

    records = Records(out, settings)
    run(model, make_methods(model, ["fwdkern", "gradcam"]), read_images(folder), preprocessing, records)
    print(table(rows(records)))
"""

from fwdkern.evaluation.images import Example, read_images
from fwdkern.evaluation.methods import METHODS, make_methods
from fwdkern.evaluation.records import Records
from fwdkern.evaluation.run import run
from fwdkern.evaluation.table import Row, picture, rows, table

__all__ = ["METHODS", "Example", "Records", "Row", "make_methods", "picture", "read_images", "rows", "run", "table"]
