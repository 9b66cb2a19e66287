//! A peer's whole life: join, receive into a file without a name, wait for the commit, name it.

use crate::control::{FromPeer, ServerLink};
use crate::copy::Run;
use crate::transport::{Connection, Received, Transport};
use crate::{Digest, Error, Failure, FinishedFile, PeerId, ReceivedFile, Source, process};

/// Runs peer `me` in its own process; an error is what the server is to report of it.
pub(crate) fn run<T: Transport>(
    run: &Run<'_>,
    transport: &T,
    me: PeerId,
    server: &ServerLink,
) -> Result<(), Failure> {
    let directory = run.destinations.of(me)?;
    let name = run.job.final_name(me, std::process::id(), run.job.source.header().name())?;
    run.job.check_name(directory, &name)?;
    let connection = transport.connect(me, server).map_err(|error| Failure::new(&error))?;
    let header = connection.header();
    if header != run.job.source.header() {
        let reason = "it is not that of the source";
        return Err(Error::Invalid { what: "header", reason }.into());
    }
    // Where the file must have a hidden name, a peer that is killed with the server would leave it
    // behind. So it outlives the server, and learns of its end by the control channel.
    let hidden = run.destinations.hidden_name(me)?;
    let mut file = process::shielded(
        || ReceivedFile::create_with_holes(directory, header, run.job.source.map().clone(), hidden),
        ReceivedFile::is_under_hidden_name,
    )?;
    file.count_with(run.progress.of(me));
    // To free a large file takes a while: a peer that fails leaves that to its end, when the server has been
    // told and no longer waits for it.
    if let Err(failure) = fill(run, connection, server, &mut file) {
        file.abandon();
        return Err(failure);
    }
    let file = file.finish()?;
    let digest = match secure(run, &file) {
        Ok(digest) => digest,
        Err(error) => {
            file.abandon();
            return Err(error.into());
        }
    };

    // Now, as an error after the commit would be one of a copy that has its name.
    let to_sync = run.job.sync.then(|| directory.open_to_sync()).transpose()?;
    server.say(&FromPeer::Consumed { bytes: file.length(), file: file.id()?, digest })?;
    server.await_commit()?;
    // From here on the copy is known to be whole, so the server's death is no reason to leave it
    // between two names.
    process::outlive_parent();
    run.job.check_is_not_source(directory, &name)?;
    file.commit(&name, run.job.existing)?;
    if let Some(directories) = to_sync {
        // What follows can fail or take long, and the file is there all the same.
        server.say(&FromPeer::Named)?;
        directories.sync().map_err(|error| Failure::new(&error))?;
    }
    server.say(&FromPeer::Stored)?;
    Ok(())
}

/// Receives the whole source into `file`.
fn fill<C: Connection>(
    run: &Run<'_>,
    connection: C,
    server: &ServerLink,
    file: &mut ReceivedFile<'_>,
) -> Result<(), Failure> {
    match connection.receive(file).map_err(|error| Failure::new(&error))? {
        Received::Everything => Ok(()),
        Received::Part => Ok(store_rest(&run.job.source, server, file)?),
    }
}

/// Does with `file` what is to be done before it has its name; its digest, if it is to be verified.
fn secure(run: &Run<'_>, file: &FinishedFile<'_>) -> Result<Option<Digest>, Error> {
    if run.job.preserve {
        file.preserve(run.job.source.header())?;
    }
    if run.job.sync {
        file.sync()?;
    }
    let is_verified = run.job.source.is_verified();
    is_verified.then(|| file.read_back(run.job.sync)).transpose()
}

/// Stores what the server does not send any more, straight from the source.
fn store_rest(
    source: &Source,
    server: &ServerLink,
    file: &mut ReceivedFile<'_>,
) -> Result<(), Error> {
    let mut reader = source.reader_from(file.length());
    let mut buffer = Vec::new();
    while !reader.at_end() {
        if !server.server_lives()? {
            return Err(Error::ServerGone);
        }
        buffer.resize(file.piece(), 0);
        let bytes = reader.fill(&mut buffer, || true)?;
        file.write_all(buffer.get(..bytes).unwrap_or_default())?;
    }
    Ok(())
}
