"""All that the plugin puts into BasicSR: its classes in the registries, its reader of LMDBs."""


def register() -> None:
    """Register with BasicSR; it must have been imported, and this be called once."""
    from basicsr.utils.file_client import FileClient
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

    from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
    from facesr_plugin.archs.patch_discriminator_arch import PatchDiscriminator
    from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset
    from facesr_plugin.data.lmdb_images import SharedLmdbBackend
    from facesr_plugin.faces.identity import calculate_identity
    from facesr_plugin.losses.regularized_l1_loss import RegularizedL1Loss
    from facesr_plugin.models.alpha_realesrgan_model import AlphaRealESRGANModel
    from facesr_plugin.models.alpha_realesrnet_model import AlphaRealESRNetModel

    ARCH_REGISTRY.register(FaceSRResNet)
    ARCH_REGISTRY.register(PatchDiscriminator)
    DATASET_REGISTRY.register(FaceDegradationDataset)
    LOSS_REGISTRY.register(RegularizedL1Loss)
    METRIC_REGISTRY.register(calculate_identity)
    MODEL_REGISTRY.register(AlphaRealESRNetModel)
    MODEL_REGISTRY.register(AlphaRealESRGANModel)
    FileClient._backends['lmdb'] = SharedLmdbBackend  # it has no other way to take one that is not its own
