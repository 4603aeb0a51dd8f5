"""Published encoder-decoder networks, and decoders for other encoders."""

from keras_deconv.models.baselines import FullResolutionNet, PatchClassifier
from keras_deconv.models.batch_statistics import recompute_batch_statistics
from keras_deconv.models.deconvnet import DeconvNet
from keras_deconv.models.encoder_decoder import EncoderDecoder
from keras_deconv.models.enet import ENet
from keras_deconv.models.quicknat import QuickNAT
from keras_deconv.models.relaynet import ReLayNet
from keras_deconv.models.segnet import (
    BayesianSegNet,
    BayesianSegNetBasic,
    SegNet,
    SegNetBasic,
)
from keras_deconv.models.stages import unpool_stage

__all__ = [
    "BayesianSegNet",
    "BayesianSegNetBasic",
    "DeconvNet",
    "ENet",
    "EncoderDecoder",
    "FullResolutionNet",
    "PatchClassifier",
    "QuickNAT",
    "ReLayNet",
    "SegNet",
    "SegNetBasic",
    "recompute_batch_statistics",
    "unpool_stage",
]
