//! Arguments to command to exit code; nothing else.

use std::{
    fmt::Display,
    io::{IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use exporter_toolkit::{Inherited, WebConfig, files, settings::Problems};
use koodrive_exporter::{
    app::{self, App, Once, RunError, Signals},
    check::{self, Online},
    cli::{self, Cli, Command, Options, OutputForm},
    clock::WallClock,
    config::{Config, Listening, Setting, Sources},
    demo::{self, DemoError},
    healthcheck::{self, Target},
    logging,
};
use tokio::signal::unix::{SignalKind, signal};

/// Gives the memory of large pages back to the system soon after they are gone, which that of glibc does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The names of standard output, which is written to where it stands.
const STANDARD_OUTPUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// Its number on Linux, on x86, ARM and most others.
const SIGXFSZ: i32 = 25;

const GOOD: u8 = 0;
const RUN_TIME_FAILURE: u8 = 1;
const BAD_CONFIGURATION: u8 = 3;
const FAILED_POLL: u8 = 4;

fn main() -> ExitCode {
    let Cli { command, options } = match Cli::given() {
        Ok(given) => given,
        Err(error) => return usage(error),
    };
    let inherited = match Inherited::from_environment() {
        Ok(inherited) => inherited,
        Err(error) => return fail(RUN_TIME_FAILURE, &error),
    };
    // Until there is a log. A runtime that gets too few threads panics, and would wait for those that it has.
    logging::on_panic(|location| {
        logging::last_word(&format!("panic at {location}: the system has no more threads, or this is a bug"));
        std::process::exit(RUN_TIME_FAILURE.into());
    });
    let runtime = match app::runtime(&mut tokio::runtime::Builder::new_multi_thread()) {
        Ok(runtime) => runtime,
        Err(error) => return fail(RUN_TIME_FAILURE, &error),
    };
    let code = runtime.block_on(async {
        // Without a handler, a write beyond a limit on files' sizes ends the process instead of failing.
        let _failing_writes = signal(SignalKind::from_raw(SIGXFSZ));
        match command {
            None => run(&options, inherited).await,
            Some(Command::Check(check)) if check.online => check_online(&options, &check).await,
            Some(Command::Check(check)) => explain(&options, check.strict),
            Some(Command::Once(once)) => write_once(&options, &once).await,
            Some(Command::Healthcheck(health)) => check_health(&options, health.url).await,
            Some(Command::Demo) => demo_result(demo::demo(options.overrides, inherited).await),
            Some(Command::Simulate(simulate)) => demo_result(demo::simulate(&simulate).await),
        }
    });
    // A secret file on a hung mount must not hold up the end.
    runtime.shutdown_background();
    code
}

/// Prints the configuration.
fn explain(options: &Options, strict: bool) -> ExitCode {
    let Checked { settings, warnings, .. } = match checked(options, strict) {
        Ok(checked) => checked,
        Err(code) => return code,
    };
    let printed = print(&format!("{}\nthe configuration is valid", check::settings(&settings)));
    warn(&warnings);
    printed
}

/// A configuration with which all is well.
struct Checked {
    config: Config,
    settings: Vec<Setting>,
    /// They are shown at the end where they are no errors.
    warnings: Vec<String>,
}

fn checked(options: &Options, strict: bool) -> Result<Checked, ExitCode> {
    let sources = sources(options);
    let (config, settings) = Config::explain(&sources).map_err(|problems| invalid(&problems))?;
    let web_config = config.web.options.web_config.as_ref();
    web_config.map_or(Ok(()), WebConfig::verify).map_err(|problems| invalid(&problems))?;
    let warnings = check::warnings(&config, &settings, sources.file(), WallClock::system().now());
    if strict && !warnings.is_empty() {
        warn(&warnings);
        return Err(BAD_CONFIGURATION.into());
    }
    Ok(Checked { config, settings, warnings })
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        logging::last_word(&format!("warning: {warning}"));
    }
}

async fn check_online(options: &Options, arguments: &cli::Check) -> ExitCode {
    let Checked { config, warnings, .. } = match checked(options, arguments.strict) {
        Ok(checked) => checked,
        Err(code) => return code,
    };
    let once = match poll_once(Online::configuration(&config)).await {
        Ok(once) => once,
        Err(code) => return code,
    };
    let online = Online::new(once.store(), &config.accounts, once.now());
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let printed = match arguments.output {
        OutputForm::Json => print(online.json().trim_end()),
        OutputForm::Table if arguments.verbose => print(&format!("{}\n{}", online.table(colours), online.details())),
        OutputForm::Table => print(online.table(colours).trim_end()),
    };
    match warnings.len() {
        0 => {}
        _ if arguments.verbose => warn(&warnings),
        // The table is to stand alone.
        count => {
            logging::last_word(&format!("warnings on the configuration: {count}; check without --online shows them"));
        }
    }
    if printed == ExitCode::SUCCESS && !online.all_good() { FAILED_POLL.into() } else { printed }
}

async fn run(options: &Options, inherited: Option<Inherited>) -> ExitCode {
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(RUN_TIME_FAILURE, &error),
    };
    let sources = sources(options);
    let content = sources.file_content();
    let config = match load(&sources) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let ran = match App::new(config) {
        Ok(app) => app.run(signals, sources, content, inherited, |_| {}).await,
        Err(error) => Err(error),
    };
    ran.map_or_else(|error| run_error(&error), |()| GOOD.into())
}

async fn write_once(options: &Options, arguments: &cli::Once) -> ExitCode {
    let once = match load(&sources(options)) {
        Ok(config) => poll_once(config).await,
        Err(code) => Err(code),
    };
    let once = match once {
        Ok(once) => once,
        Err(code) => return code,
    };
    let text = once.text(arguments.include_exporter_metrics);
    let written = match arguments.output.as_deref() {
        Some(path) if !STANDARD_OUTPUT.iter().any(|name| path == Path::new(name)) => files::replace(path, &text),
        _ => std::io::stdout().write_all(&text),
    };
    match written {
        Ok(()) => once_code(&once),
        Err(error) => fail(RUN_TIME_FAILURE, &error),
    }
}

async fn poll_once(config: Config) -> Result<Once, ExitCode> {
    let app = App::new(config).map_err(|error| run_error(&error))?;
    app.once().await.map_err(|error| run_error(&error))
}

/// Asks where the configuration has the exporter listen, unless a URL is given.
async fn check_health(options: &Options, url: Option<String>) -> ExitCode {
    let target = match (url, Listening::load(&sources(options))) {
        (Some(url), _) => Target::of_url(url),
        (None, Ok(listening)) => Target::of(&listening),
        (None, Err(problems)) => {
            return fail(
                BAD_CONFIGURATION,
                &format!("cannot find where the exporter listens, give --url:\n{problems}"),
            );
        }
    };
    match healthcheck::ask(&target).await {
        Ok(()) => GOOD.into(),
        Err(why) => fail(RUN_TIME_FAILURE, &why),
    }
}

fn once_code(once: &Once) -> ExitCode {
    if once.all_good() { GOOD.into() } else { FAILED_POLL.into() }
}

fn sources(options: &Options) -> Sources {
    Sources::of_process(options.config_file.clone(), options.overrides.clone())
}

fn load(sources: &Sources) -> Result<Config, ExitCode> {
    Config::load(sources).map_err(|problems| invalid(&problems))
}

/// What may pass by itself does not keep a service manager from starting the exporter again.
fn invalid(problems: &Problems) -> ExitCode {
    fail(if problems.may_pass() { RUN_TIME_FAILURE } else { BAD_CONFIGURATION }, problems)
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
    let is_configured =
        matches!(error, RunError::Transport(_) | RunError::Serve(exporter_toolkit::Error::WebConfig(_)));
    let code = if is_configured { BAD_CONFIGURATION } else { RUN_TIME_FAILURE };
    fail(code, error)
}

fn print(message: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{message}") {
        Ok(()) => GOOD.into(),
        Err(error) => fail(RUN_TIME_FAILURE, &error),
    }
}

/// Prints what is wrong with the command line, or the help that it asks for.
fn usage(error: clap::Error) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(RUN_TIME_FAILURE);
    if error.use_stderr() {
        logging::within_a_second(move || error.print());
    } else {
        // A reader who stops reading has seen enough.
        let _ = error.print();
    }
    code.into()
}

fn fail(code: u8, error: &dyn Display) -> ExitCode {
    logging::last_word(&error.to_string());
    code.into()
}
