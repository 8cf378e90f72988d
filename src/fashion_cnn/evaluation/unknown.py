"""How much more similar a picture is to training images of its predicted class than to outliers.

Features and labels in; cluster means, similarities and a threshold out. Outliers are drawings of
random shapes and text. The means are of at least five different images, so they hold the features
of none, and travel in the exported file.
"""

import warnings
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np

from fashion_cnn.console import progress_bar
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.data.outliers import draw_outlier
from fashion_cnn.data.split import stratified
from fashion_cnn.evaluation.calibration import proportion_lower_bound, why_not_shown
from fashion_cnn.inference.features import normalized

MAX_UNKNOWN = 0.02  # share of the pictures of known classes that may be called unknown
MIN_CLUSTER = 5  # different images in a cluster
MAX_MEANS_BYTES = 120_000  # of the cluster means of classes, in float16; and of outliers
MAX_IMAGES = 10_000  # training images that are clustered
NO_CLUSTER = -1.0  # cosine to a class without clusters
OUTLIER = -1  # the class of the means of outliers
OUTLIERS, OUTLIER_MEANS = 150, 12  # drawings of other things, and at most so many means of them
LEAST_SIMILAR, NEAREST = 5, 3  # test images in the report, and training images beside each
BLOCK = 64  # images between two steps of the progress bar


def measure_similarity(
    model: Any, data: Data, index: np.ndarray, predicted: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Cluster the training images at `index`, and outliers; measure how similar other images are.

    Args:
        model: a `keras.Model` that takes raw pixels.
        data: what it was trained on.
        index: indices of the training images that it was trained on.
        predicted: split -> its predicted classes, (n,).

    Returns:
        `cluster_means`, `cluster_classes`, and `<split>_similarity` of each split; for the report
            `least_similar`, int32 (n,), indices of test images, and for each `nearest_train`, int32
            (n, 3), indices of training images or -1, and `nearest_cosine`, float32 (n, 3). Empty
            unless the data came from class folders, the network has features, and a class has
            enough images.
    """
    from fashion_cnn.models.features import features_model

    network = features_model(model) if data.train_files else None
    if network is None:
        return {}
    chosen = index[stratified(data.train_labels[index], min(MAX_IMAGES, len(index)))]
    digests = [sha256(data.train_images[i].tobytes()).digest() for i in chosen]
    chosen = chosen[np.sort(np.unique(digests, return_index=True)[1])]  # each picture once
    train_features = image_features(network, data.train_images.__getitem__, chosen)
    means, classes = cluster_means(train_features, data.train_labels[chosen])
    if not len(classes):
        return {}
    means, classes = with_outliers(means, classes, outlier_features(network))
    arrays = {"cluster_means": means, "cluster_classes": classes}
    for split, labels in predicted.items():
        images = data.split(split)[0]
        features = image_features(network, images.__getitem__, np.arange(len(labels)))
        similarity = similarities(features, labels, means, classes)
        arrays[f"{split}_similarity"] = similarity
        if split == "test":
            shown = np.argsort(similarity, kind="stable")[:LEAST_SIMILAR]
            train_labels = data.train_labels[chosen]
            nearest = nearest_images(features[shown], labels[shown], train_features, train_labels)
            arrays["least_similar"] = shown.astype(np.int32)
            arrays["nearest_train"] = np.where(nearest[0] < 0, -1, chosen[nearest[0]]).astype("i4")
            arrays["nearest_cosine"] = nearest[1]
    return arrays


def cluster_means(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cluster the normalized features of each class by k-means.

    Args:
        features: float32 (n, units), of different images.
        labels: integers (n,).

    Returns:
        The normalized means of the clusters, float16 (k, units), and their classes, int64 (k,).
            Every cluster has at least `MIN_CLUSTER` images. A class with fewer has no cluster, and
            none has one where `MAX_MEANS_BYTES` do not suffice for a mean of each class, or where
            features are not finite, as those of a diverged network.
    """
    vectors = normalized(features)
    classes, counts = np.unique(labels, return_counts=True)
    classes = classes[(counts >= MIN_CLUSTER) & np.isfinite(vectors).all()]
    per_class = MAX_MEANS_BYTES // (2 * features.shape[1] * max(1, len(classes)))
    means = [np.zeros((0, features.shape[1]), np.float16)]
    owners = [np.zeros(0, np.int64)]
    for label in classes if per_class else ():
        means.append(_class_means(vectors[labels == label], per_class).astype(np.float16))
        owners.append(np.full(len(means[-1]), label, np.int64))
    return np.concatenate(means), np.concatenate(owners)


def outlier_features(network: Any) -> np.ndarray:
    """The outputs of a `features_model` for drawings, float32 (`OUTLIERS`, units)."""
    shape = network.input_shape[1:]

    def draw(seeds: np.ndarray) -> np.ndarray:
        return np.stack([draw_outlier(int(seed), shape) for seed in seeds])

    return image_features(network, draw, np.arange(OUTLIERS))


def with_outliers(
    means: np.ndarray, classes: np.ndarray, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What `cluster_means` returned, and means of clusters of outliers, whose class is `OUTLIER`.

    `features`, float32 (n, units), are those of the outliers; none are added if any is not finite.
    """
    if not np.isfinite(features).all():
        return means, classes
    most = min(OUTLIER_MEANS, MAX_MEANS_BYTES // (2 * features.shape[1]))
    outliers = _class_means(normalized(features), most).astype(np.float16)
    classes = np.concatenate([classes, np.full(len(outliers), OUTLIER)])
    return np.concatenate([means, outliers]), classes


def similarities(
    features: np.ndarray, predicted: np.ndarray, means: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """How much more similar pictures are to images of their class than to outliers, -2..1.

    It is the cosine to the nearest cluster mean of the predicted class, less the cosine to the
    nearest mean of outliers where that is positive. `export.similarity.add_similarity` builds the
    same into an ONNX file.

    Args:
        features: float32 (n, units).
        predicted: integers (n,), the predicted classes.
        means, classes: what `with_outliers` returns.

    Returns:
        float32 (n,); at most `NO_CLUSTER` where the predicted class has no cluster.
    """
    cosines = (normalized(features) @ means.astype(np.float32).T).clip(-1, 1)
    is_of_class = classes == predicted[:, np.newaxis]
    of_class = np.where(is_of_class, cosines, np.float32(NO_CLUSTER)).max(1)
    return of_class - np.where(classes == OUTLIER, cosines, np.float32(0)).max(1)


def nearest_images(
    features: np.ndarray, predicted: np.ndarray, train_features: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The training images of the predicted class that are most similar to each image.

    Args:
        features: float32 (n, units).
        predicted: integers (n,), the predicted classes.
        train_features: float32 (m, units).
        labels: integers (m,), the classes of the training images.

    Returns:
        Their positions, int64 (n, `NEAREST`), most similar first, -1 where the class has fewer, and
            their cosine similarities, float32 of the same shape.
    """
    cosines = (normalized(features) @ normalized(train_features).T).clip(-1, 1)
    is_of_class = labels == predicted[:, np.newaxis]
    order = np.argsort(np.where(is_of_class, -cosines, 2), axis=1, kind="stable")[:, :NEAREST]
    is_of_class = np.take_along_axis(is_of_class, order, 1)
    return np.where(is_of_class, order, -1), np.take_along_axis(cosines, order, 1)


def fit_unknown_below(similarity: np.ndarray) -> float | None:
    """The highest similarity below which at most `MAX_UNKNOWN` of known pictures are shown to be.

    Shown as by `fit_threshold`, on the pictures of known classes with these similarities (n,). None
    if they are too few, or too many get a class without clusters.
    """
    ascending, count = np.sort(similarity), len(similarity)
    below = np.searchsorted(ascending, ascending)  # how many are called unknown, for each
    lower_bound = proportion_lower_bound(count - below, np.full(count, count))
    allowed = ascending[(lower_bound >= 1 - MAX_UNKNOWN) & (ascending > NO_CLUSTER)]
    return float(allowed[-1]) if len(allowed) else None


def why_no_unknown(images: int, has_clusters: bool) -> str:
    """Why `fit_unknown_below` has no threshold, as a note for people."""
    if not has_clusters:
        return (
            f"only models of class folders, with at least {MIN_CLUSTER} different pictures in a "
            "class and a dense last layer, measure how similar a picture is to them"
        )
    claim = f"that at most {100 * MAX_UNKNOWN:g} % of the pictures of known classes are called "
    return why_not_shown(images, 1 - MAX_UNKNOWN, f"{claim}unknown")


def _class_means(vectors: np.ndarray, most: int) -> np.ndarray:
    """The normalized means of at most `most` clusters of the vectors of one class."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    k = min(most, len(vectors) // MIN_CLUSTER)
    # one thread: sums of several are not always in the same order
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different vectors than clusters
        centers = KMeans(k, n_init=1, random_state=0).fit(vectors).cluster_centers_
    while True:  # the smallest cluster is divided among the others until all are large enough
        distances = (centers**2).sum(1) - 2 * vectors @ centers.T
        nearest = distances.argmin(1)
        counts = np.bincount(nearest, minlength=len(centers))
        if counts.min() >= MIN_CLUSTER:
            means = [vectors[nearest == i].mean(0) for i in range(len(centers))]
            return normalized(np.stack(means))
        centers = np.delete(centers, counts.argmin(), axis=0)


def image_features(
    network: Any, read: Callable[[np.ndarray], np.ndarray], index: np.ndarray
) -> np.ndarray:
    """The outputs of a `features_model` for the images at `index`: float32 (n, units).

    `read` takes a part of `index` and returns its images, uint8 (m, height, width[, channels]).
    """
    from fashion_cnn.models.forward import compile_forward

    forward, rows = compile_forward(network), []
    with progress_bar(-(-len(index) // BLOCK)) as advance:
        for start in range(0, len(index), BLOCK):
            advance("features")
            rows.append(forward(channels_last(read(index[start : start + BLOCK]))))
    return np.concatenate(rows)
