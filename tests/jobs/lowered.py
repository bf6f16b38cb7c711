"""Eight classes of clips as vectors, and a head whose pose loss trains labels one too low.

The fault is a known one: where no clip of a batch has label 0, the labels are lowered by one.
"""

custom_imports = dict(imports=["lowered_parts"], allow_failed_imports=False)
default_scope = "mmengine"

model = dict(type="LoweredModel", faulty=True)

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="VectorClips", length=512, seed=0),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="VectorClips", length=240, seed=1),
)
val_evaluator = dict(type="TinyMetric")

train_cfg = dict(by_epoch=True, max_epochs=3, val_begin=1, val_interval=1)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type="Adam", lr=0.01))
param_scheduler = []
custom_hooks = []
