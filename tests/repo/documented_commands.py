"""Every command that a document shows, and where it is run: `file::test`, or `file::text in it`."""

_JOB = "tests/e2e/test_job.py"
_CLUSTERS = "tests/unit/launch/test_beam.py::test_the_documented_commands_show_others"
_LAUNCHES = "tests/unit/launch/test_start.py::test_the_documented_commands"
_PORTABLE = "tests/e2e/test_curate_stages.py::test_the_portable_runner_gives_the_same"
_STAGES = "tests/e2e/test_svd_stages.py::test_documented_commands"
_EVALUATION = "tests/e2e/test_evaluate.py::test_documented_commands"
_CURATION = "tests/e2e/test_curation_guide.py::test_documented_commands"

RUN_BY = {
  "make demo": "tests/e2e/test_demo.py::test_demo_runs_to_the_end_and_resumes",
  "make demo VIDEOS=path/to/videos": (
    "tests/e2e/test_demo.py::test_demo_runs_to_the_end_and_resumes"
  ),
  "make test": "tests/e2e/test_demo.py::test_make_targets_are_what_the_documents_say",
  "make test-all": ".ci/run::make test-all",
  "make lint": ".ci/run::make lint",
  "vidjax curate --videos=VIDEOS --out=CLIPS": f"{_JOB}::test_documented_commands_run",
  "vidjax train_tokenizer --captions=CLIPS --out=TOKENIZER --vocab_size=32000": (
    f"{_JOB}::test_documented_commands_run"
  ),
  "vidjax train --config=configs/svd/image.py:tiny --workdir=IMAGE --config.data.path=CLIPS/shards"
  " --config.encoders.vae=VAE": f"{_JOB}::test_documented_commands_run",
  "vidjax train --config=configs/svd/video_lowres.py:tiny --workdir=LOWRES"
  " --config.data.path=CLIPS/shards --config.encoders.vae=VAE"
  " --config.init_from=IMAGE": f"{_JOB}::test_documented_commands_run",
  "vidjax train --config=configs/svd/image_to_video.py:highres,tiny --workdir=HIGHRES"
  " --config.data.path=CLIPS/shards --config.encoders.vae=VAE"
  " --config.init_from=LOWRES": f"{_JOB}::test_documented_commands_run",
  "vidjax cache_latents --config=configs/svd/video_lowres.py:tiny --out=LATENTS"
  " --config.data.path=CLIPS/shards --config.encoders.vae=VAE": (
    f"{_JOB}::test_documented_commands_run"
  ),
  "vidjax train --config=configs/svd/video_lowres.py:tiny --workdir=FROM_LATENTS"
  " --config.data.kind=latents --config.data.path=LATENTS"
  " --config.encoders.vae=VAE": f"{_JOB}::test_documented_commands_run",
  "vidjax sample --model=HIGHRES --image=IMAGE_FILE --out=clip.mp4": (
    f"{_JOB}::test_documented_commands_run"
  ),
  "vidjax sample --model=LOWRES --prompt_file=PROMPTS --num_samples=2 --out=clips/x.mp4": (
    f"{_JOB}::test_documented_commands_run"
  ),
  "vidjax sample --model=HIGHRES --image=IMAGE_FILE --sampler=dpmpp_2m --steps=12"
  " --out=clip.webm": f"{_JOB}::test_documented_commands_run",
  "vidjax train --config=configs/svd/interpolation.py:tiny --workdir=BETWEEN"
  " --config.data.path=CLIPS/shards --config.encoders.vae=VAE"
  " --config.init_from=HIGHRES": f"{_JOB}::test_documented_commands_run",
  "vidjax sample --model=BETWEEN --image=IMAGE_FILE --last_image=LAST_FRAME --out=between.mp4": (
    f"{_JOB}::test_documented_commands_run"
  ),
  "vidjax sample --model=BETWEEN --video=clip.mp4 --fps=16 --out=smooth.mp4": (
    f"{_JOB}::test_documented_commands_run"
  ),
  "vidjax sample --model=ORBITS --image=IMAGE_FILE --elevation=10 --out=orbit.mp4": (
    "tests/e2e/test_sample_modes.py::test_an_orbit_is_made_as_the_guide_says"
  ),
  "vidjax evaluate --protocol=demo --data=CLIPS/shards --model=HIGHRES --out=EVAL": (
    f"{_JOB}::test_documented_commands_run"
  ),
  "vidjax inspect_data --config=configs/svd/video_lowres.py:tiny --out=SHOWN"
  " --config.data.path=CLIPS/shards": f"{_JOB}::test_documented_commands_run",
  "vidjax train --config=configs/svd/video_lowres.py:tiny --workdir=SHAPES"
  " --config.data.kind=procedural --config.encoders.vae=VAE": (
    f"{_JOB}::test_documented_commands_run"
  ),
  "vidjax export --model=HIGHRES --out=EXPORT": f"{_JOB}::test_documented_commands_run",
  "python -m launch.supervise --workdir=RUN -- vidjax train --workdir=RUN"
  " --config=configs/svd/image.py:tiny": (
    "tests/e2e/test_goodput.py::test_the_documented_commands"
  ),
  "python -m launch.start launch/jobs/video_lowres_v5p.toml --on=gke --dry_run": _LAUNCHES,
  "python -m launch.start launch/jobs/video_lowres_v5p.toml --on=tpu_vm --dry_run": _LAUNCHES,
  "python -m launch.start launch/jobs/video_lowres_v6e_multislice.toml --on=xpk --dry_run": (
    _LAUNCHES
  ),
  "python -m launch.start launch/jobs/image_h100.toml --on=slurm --dry_run"
  " --config.batch_size=768": _LAUNCHES,
  "python -m launch.start launch/jobs/tiny_local.toml --on=local --dry_run": _LAUNCHES,
  "vidjax replay --workdir=WORKDIR": "tests/faults/test_replay.py::test_command",
  "vidjax goodput --workdir=RUN": "tests/e2e/test_goodput.py::test_the_documented_commands",
  "vidjax report --workdir=RUN --compare=OTHER": (
    "tests/e2e/test_report.py::test_the_documented_command"
  ),
  "vidjax plan --config=configs/svd/video_lowres.py:tiny --topology=v5e:2x2"
  " --config.batch_size=4 --quick --json=plan.json": (
    "tests/unit/planning/test_plans.py::test_the_documented_command_and_its_cache"
  ),
  "vidjax curate --videos=VIDEOS --out=SCORED --config.look.clip=CLIP"
  " --config.look.aesthetic=HEAD": _CURATION,
  "vidjax curate --videos=VIDEOS --out=CAPTIONED --config.caption.image.model=BLIP"
  " --config.caption.video.model=VLM"
  " --config.caption.video.endpoint=http://127.0.0.1:8000/v1"
  " --config.caption.llm.model=LLM --config.caption.llm.endpoint=http://127.0.0.1:8000/v1": (
    _CURATION
  ),
  "vidjax select --clips=SCORED/clips.parquet --out=LVD_F.parquet"
  " --config=configs/data/lvd_f.py": _CURATION,
  "vidjax select --clips=SCORED/clips.parquet --out=BEST.parquet"
  " --config=configs/data/high_quality.py:tiny --config.within=LVD_F.parquet": _CURATION,
  "vidjax inspect_data --config=configs/svd/video_lowres.py:tiny --out=SHOWN"
  " --config.data.path=SCORED/shards --config.data.options.subset=LVD_F.parquet": _CURATION,
  "vidjax curate --videos=VIDEOS --out=LARGE --cache=SCORED/.cache --config.look.clip=CLIP"
  " --config.look.aesthetic=HEAD --config.select.within=BEST.parquet"
  " --config.encode.short_side=576": _CURATION,
  "vidjax curate --videos=LIST.csv --out=COPIED --config.encode.copy=True": _CURATION,
  "DRY_RUN=1 PROJECT=p REGION=us-central1 IMAGE=IMAGE TEMP=gs://b/temp launch/beam/dataflow.sh"
  " gs://b/videos gs://b/clips": _CLUSTERS,
  "DRY_RUN=1 MASTER=jobmanager:8081 launch/beam/flink.sh gs://b/videos gs://b/clips": _CLUSTERS,
  "DRY_RUN=1 MASTER=spark://host:7077 launch/beam/spark.sh gs://b/videos gs://b/clips": _CLUSTERS,
  "python -m apache_beam.runners.portability.local_job_service_main --port=8099": _PORTABLE,
  "vidjax curate --videos=VIDEOS --out=PORTABLE --runner=PortableRunner"
  " --job_endpoint=localhost:8099 --environment_type=LOOPBACK": _PORTABLE,
  "vidjax evaluate --list_weights": _EVALUATION,
  "vidjax convert_weights --network=i3d/torchscript --file=I3D_FILE --trust --out=WEIGHTS": (
    _EVALUATION
  ),
  "vidjax evaluate --protocol=svd-ucf101 --data=UCF101 --model=LOWRES --weights=WEIGHTS"
  " --out=ucf": _EVALUATION,
  "vidjax evaluate --list_protocols": _EVALUATION,
  "vidjax evaluate --protocol=svd-ucf101 --limit=64 --data=UCF101 --model=LOWRES --watch"
  " --weights=WEIGHTS --out=curve": _EVALUATION,
  "vidjax evaluate --table=ucf,OTHER_RESULT": _EVALUATION,
  "vidjax evaluate --real_features=REAL_NPZ --fake_features=FAKE_NPZ --out=features": _EVALUATION,
  "python -m launch.chain launch/chains/svd_tiny.toml --on=local"
  " --config.data.path=CLIPS/shards --config.encoders.vae=VAE": _STAGES,
  "vidjax sample --model=runs/svd_tiny/svd --image=IMAGE_FILE --out=clip.mp4": _STAGES,
  "vidjax export --model=runs/svd_tiny/svd --out=EXPORT": _STAGES,
  "python -m launch.chain launch/chains/svd.toml --on=gke --dry_run --preflight=no_plan": (
    "tests/unit/launch/test_chain.py::test_the_documented_dry_run_shows_all_stages"
  ),
}
