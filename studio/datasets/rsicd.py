"""RSICD: 10,921 aerial pictures of 30 scene classes, five sentences each (Lu et al. 2018, IEEE TGRS 56(4)).

The hub's parquet keeps the class in the file name only: rsicd_images/baseballfield_12.jpg. 921 of the names are bare
numbers without a class. Its other pictures are those of AID, so training on one and testing on the other is a leak.
"""

from pathlib import PurePosixPath

CLASS_NAMES = {
    "airport": "airport",
    "bareland": "bare land",
    "baseballfield": "baseball field",
    "beach": "beach",
    "bridge": "bridge",
    "center": "center",
    "church": "church",
    "commercial": "commercial area",
    "denseresidential": "dense residential area",
    "desert": "desert",
    "farmland": "farmland",
    "forest": "forest",
    "industrial": "industrial area",
    "meadow": "meadow",
    "mediumresidential": "medium residential area",
    "mountain": "mountain",
    "park": "park",
    "parking": "parking lot",
    "playground": "playground",
    "pond": "pond",
    "port": "port",
    "railwaystation": "railway station",
    "resort": "resort",
    "river": "river",
    "school": "school",
    "sparseresidential": "sparse residential area",
    "square": "square",
    "stadium": "stadium",
    "storagetanks": "storage tanks",
    "viaduct": "viaduct",
}


def label_of_name(file_name: str) -> str:
    """The class in front of the last underscore; nothing for a bare number."""
    stem = PurePosixPath(file_name).stem
    label, underscore, _ = stem.rpartition("_")
    return "" if not underscore or label.isdigit() else label
