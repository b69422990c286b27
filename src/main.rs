//! Arguments to command to exit code; nothing else.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use koodrive_exporter::{
    app::{App, RunError},
    cli::{Cli, Command, Options},
    config::{Config, Sources},
    demo::{self, DemoError},
    poll::Lanes,
    web::{Guard, Inherited},
};

const GOOD: u8 = 0;
const RUN_TIME_FAILURE: u8 = 1;
const BAD_CONFIGURATION: u8 = 3;
const FAILED_POLL: u8 = 4;

fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    let inherited = match Inherited::from_environment() {
        Ok(inherited) => inherited,
        Err(error) => return fail(RUN_TIME_FAILURE, &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(RUN_TIME_FAILURE, &error),
    };
    let code = runtime.block_on(async {
        match command {
            None => run(&options, inherited).await,
            Some(Command::Check) => check(&options),
            Some(Command::Once) => once(&options).await,
            Some(Command::Demo) => demo_result(demo::demo(options.overrides()).await),
            Some(Command::Simulate(simulate)) => demo_result(demo::simulate(&simulate).await),
        }
    });
    // A secret file on a hung mount must not hold up the end.
    runtime.shutdown_background();
    code
}

fn check(options: &Options) -> ExitCode {
    match load(&sources(options)).map(|config| Guard::new(config.web.file.as_ref())) {
        Ok(Ok(_)) => tell("the configuration is valid"),
        Ok(Err(problems)) => fail(BAD_CONFIGURATION, &problems),
        Err(code) => code,
    }
}

async fn run(options: &Options, inherited: Option<Inherited>) -> ExitCode {
    let sources = sources(options);
    let config = match load(&sources) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let lanes = Lanes::new(config.concurrency);
    let ran = match App::new(config, lanes) {
        Ok(app) => app.run(sources, inherited, |_| {}).await,
        Err(error) => Err(error),
    };
    ran.map_or_else(|error| run_error(&error), |()| GOOD.into())
}

async fn once(options: &Options) -> ExitCode {
    let config = match load(&sources(options)) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let lanes = Lanes::patient(config.concurrency);
    let once = match App::new(config, lanes) {
        Ok(app) => app.once().await,
        Err(error) => Err(error),
    };
    let once = match once {
        Ok(once) => once,
        Err(error) => return run_error(&error),
    };
    if let Err(error) = std::io::stdout().write_all(&once.exposition) {
        return fail(RUN_TIME_FAILURE, &error);
    }
    if once.all_good() { GOOD.into() } else { FAILED_POLL.into() }
}

fn sources(options: &Options) -> Sources {
    Sources::of_process(options.config_file.clone(), options.overrides())
}

fn load(sources: &Sources) -> Result<Config, ExitCode> {
    Config::load(sources).map_err(|problems| fail(BAD_CONFIGURATION, &problems))
}

fn demo_result(result: Result<(), DemoError>) -> ExitCode {
    match result {
        Ok(()) => GOOD.into(),
        Err(DemoError::Run(error)) => run_error(&error),
        Err(error @ DemoError::Config(_)) => fail(BAD_CONFIGURATION, &error),
        Err(error) => fail(RUN_TIME_FAILURE, &error),
    }
}

fn run_error(error: &RunError) -> ExitCode {
    let is_configured = matches!(error, RunError::Transport(_) | RunError::WebConfig(_));
    let code = if is_configured { BAD_CONFIGURATION } else { RUN_TIME_FAILURE };
    fail(code, error)
}

fn tell(message: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{message}") {
        Ok(()) => GOOD.into(),
        Err(error) => fail(RUN_TIME_FAILURE, &error),
    }
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("koodrive-exporter: {error}");
    code.into()
}
