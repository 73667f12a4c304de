"""What `stylealign` exports, for editors and type checkers; __init__.py imports each name when it is first used."""

from stylealign.api.augmentation import StyleAugmentation as StyleAugmentation
from stylealign.api.detector import Detector as Detector
from stylealign.api.detector import Face as Face
from stylealign.api.detector import load as load
from stylealign.api.scores import evaluate_landmarks as evaluate_landmarks
from stylealign.api.training_batches import training_batches as training_batches
from stylealign.api.translator import StyleTranslator as StyleTranslator
from stylealign.data.dataset import FaceDataset as FaceDataset
from stylealign.data.dataset_writer import write_dataset as write_dataset
from stylealign.errors import UserError as UserError
from stylealign.face.sample import FaceSample as FaceSample
from stylealign.face.sample import Prediction as Prediction
from stylealign.face.schema import SCHEMAS as SCHEMAS
from stylealign.face.schema import LandmarkSchema as LandmarkSchema
from stylealign.face.schema import get_schema as get_schema

__version__: str
