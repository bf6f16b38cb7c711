"""PCAN cut down to learn the drawn set of `pcan data demo` on two CPU cores.

The same network, pipeline and schedule as configs/pcan_ntu60.py with smaller numbers. What is
not marked as cut down is the stock RGBPoseConv3D config of MMAction2 1.2.0
(configs/skeleton/posec3d/rgbpose_conv3d/rgbpose_conv3d.py) and PCAN's own parts.
"""

default_scope = "mmaction"
custom_imports = dict(
    imports=["pipeline.train.model", "pipeline.train.transforms"], allow_failed_imports=False
)

data_root = "data/demo"

# Widths are an eighth of the stock ones (64 and 32), one block a stage instead of 3-6.
model = dict(
    type="MMRecognizer3D",
    backbone=dict(
        type="PCANBackbone",
        rgb_frames=8,
        pose_frames=32,
        cross_channels=(16, 32),  # an eighth of (128, 256), like the widths
        cross_heads=4,
        cross_dropout=0.1,
        speed_ratio=4,
        channel_ratio=4,
        rgb_pathway=dict(
            num_stages=4,
            stage_blocks=(1, 1, 1, 1),
            lateral=True,
            lateral_infl=1,
            lateral_activate=[0, 0, 1, 1],
            fusion_kernel=7,
            base_channels=8,
            conv1_kernel=(1, 7, 7),
            inflate=(0, 0, 1, 1),
            with_pool2=False,
        ),
        pose_pathway=dict(
            num_stages=3,
            stage_blocks=(1, 1, 1),
            lateral=True,
            lateral_inv=True,
            lateral_infl=16,
            lateral_activate=(0, 1, 1),
            fusion_kernel=7,
            in_channels=17,
            base_channels=4,
            out_indices=(2,),
            conv1_kernel=(1, 7, 7),
            conv1_stride_s=1,
            conv1_stride_t=1,
            pool1_stride_s=1,
            pool1_stride_t=1,
            inflate=(0, 1, 1),
            spatial_strides=(2, 2, 2),
            temporal_strides=(1, 1, 1),
            dilations=(1, 1, 1),
            with_pool2=False,
        ),
    ),
    cls_head=dict(
        type="PCANHead",
        num_classes=8,
        in_channels=[256, 64],
        fine_to_coarse=[0, 0, 1, 1, 2, 2, 3, 3],  # pairs of related motions
        loss_weights=[1.0, 2.0, 0.5, 0.8],  # the plan's
        prototype_channels=[32, 16],  # an eighth of the paper's 256 and 128
        dropout=0.2,  # 0.5 is too much for these widths
        average_clips="prob",
    ),
    data_preprocessor=dict(
        type="MultiModalDataPreprocessor",
        preprocessors=dict(
            imgs=dict(
                type="ActionDataPreprocessor",
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                format_shape="NCTHW",
            ),
            heatmap_imgs=dict(type="ActionDataPreprocessor"),
        ),
    ),
)

# Stock clip lengths (8 pictures, 32 skeletons); 48 px instead of 224.
clip_len = dict(RGB=8, Pose=32)
left_kp = [1, 3, 5, 7, 9, 11, 13, 15]
right_kp = [2, 4, 6, 8, 10, 12, 14, 16]
heatmaps = dict(type="PoseHeatmaps", sigma=0.7, use_score=True, scaling=0.25)
pack = [
    heatmaps,
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs", collect_keys=("imgs", "heatmap_imgs")),
]
train_pipeline = [
    dict(type="MMUniformSampleFrames", clip_len=clip_len, num_clips=1),
    dict(type="MMDecode"),
    dict(type="MMCompact", hw_ratio=1.0, allow_imgpad=True),
    dict(type="Resize", scale=(56, 56), keep_ratio=False),
    dict(type="RandomResizedCrop", area_range=(0.56, 1.0)),
    dict(type="Resize", scale=(48, 48), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5, left_kp=left_kp, right_kp=right_kp),
    *pack,
]
val_pipeline = [
    dict(type="MMUniformSampleFrames", clip_len=clip_len, num_clips=1, test_mode=True),
    dict(type="MMDecode"),
    dict(type="MMCompact", hw_ratio=1.0, allow_imgpad=True),
    dict(type="Resize", scale=(48, 48), keep_ratio=False),
    *pack,
]

dataset = dict(
    type="PoseDataset", data_root=data_root, ann_file="ann.pkl", data_prefix=dict(video="videos")
)
train_dataloader = dict(
    batch_size=6,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**dataset, split="train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**dataset, split="val", pipeline=val_pipeline, test_mode=True),
)
test_dataloader = val_dataloader

val_evaluator = [dict(type="AccMetric"), dict(type="CoarseAccMetric")]
test_evaluator = val_evaluator

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12, val_begin=1, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

# Momentum, weight decay and clipping are the plan's; the rate suits a batch of 32 from scratch.
optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.05, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=20, norm_type=2),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=12, T_max=12, eta_min=1e-5),
]
