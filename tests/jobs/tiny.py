"""A complete MMEngine config that trains for real in about 0.1 s an epoch.

Its parts are in `tiny_parts.py` beside it: put this folder on the job's PYTHONPATH
(`job.code_root: tests/jobs`). Useful overrides: `model.fault`, `model.sleep`,
`model.width`, `val_evaluator.top1` (one value an epoch), `train_cfg.max_epochs`.
"""

custom_imports = dict(imports=["tiny_parts"], allow_failed_imports=False)
default_scope = "mmengine"

model = dict(
    type="TinyModel",
    width=16,
    sleep=0.0,
    sleep_val=0.0,
    loss_weights=[1.0, 2.0],
    fault=None,
    deaf=False,
)

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="TinyDataset", length=64, seed=0, bad_index=None, root=None, annotation=None
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="TinyDataset", length=32, seed=1, bad_index=None, root=None),
)
val_evaluator = dict(type="TinyMetric", top1=None, start=None)

train_cfg = dict(by_epoch=True, max_epochs=4, val_begin=1, val_interval=1)
val_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=20),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=4, eta_min=1e-5, by_epoch=True, begin=0, end=4)
]
visualizer = dict(type="TinyVisualizer", vis_backends=[dict(type="LocalVisBackend")])
default_hooks = dict(logger=dict(type="LoggerHook", interval=4))
custom_hooks = []
