"""What photographs go through; networks.py does without, since GPU machines may lack the packages for pictures."""

from fwdkern.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def imagenet_preprocessing(
    mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> Preprocessing:
    """For a network trained on ImageNet with these statistics."""
    return Preprocessing(channels=3, resize=256, crop=(224, 224), mean=mean, std=std)
